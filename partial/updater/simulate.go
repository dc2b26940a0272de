package updater

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// How the updater works through a manifest, in four phases: all lines are parsed (and rmrfdir replaced by what it
// finds), then each action prepares itself, then each is executed, then each finishes. What exists is asked
// before anything changes, so an instruction does not see the effect of one before it; but each one finds the
// files that the ones before it have left.

// A NodeKind says what is at a path of a tree.
type NodeKind uint8

// The kinds of what can be at a path.
const (
	NodeNone    NodeKind = iota // nothing
	NodeFile                    // a file, or a link to one
	NodeDir                     // a directory
	NodeDirLink                 // a symbolic link to a directory
)

// A Tree is what an update is applied to, as it was before. Paths are clean.
type Tree interface {
	// Stat says what is at a path.
	Stat(p string) (NodeKind, error)
	// Below lists everything below a directory, children before their parents, with a slash at the end of
	// directories. It does not list the directory itself.
	Below(p string) ([]string, error)
	// Read returns the content of a small file.
	Read(p string) ([]byte, error)
}

// An Item is an entry of an update's MAR.
type Item struct {
	Size int64       // bytes as they are stored
	Mode fs.FileMode // as the entry has it
}

// A Blob is the content of a file after an update, said in terms of what there is: a file of the tree as it was,
// an item, or a patch applied to another blob.
type Blob struct {
	File string // a file of the tree
	Item string // an item, whole or, with Base, a patch
	Base *Blob  // what the patch Item is applied to
}

// String names a blob.
func (b *Blob) String() string {
	switch {
	case b.Base != nil:
		return "patch " + b.Item + "\x00" + b.Base.String()
	case b.Item != "":
		return "item " + b.Item
	}
	return "file " + b.File
}

// A Change is what becomes of one path.
type Change struct {
	Blob *Blob       // nil: removed
	Mode fs.FileMode // permissions, where Moded
	// Moded says that the mode comes from an item. Otherwise it is that of the file as it was.
	Moded bool
	By    Instruction // the last one that touched the path
}

// What the updater appends to the name of a file: of the one that is there while it is replaced, and, in newer updaters,
// of what replaces it.
const (
	BackupSuffix = ".moz-backup"
	DraftSuffix  = ".moz-draft"
)

// A Plan is what an update does to a tree.
type Plan struct {
	Changes map[string]*Change // by clean path
	Order   []string           // keys of Changes, in the order in which they were first touched
	// Rmdirs are directories to remove at the end, each if it is empty then. The order counts.
	Rmdirs  []string
	Skipped []Instruction          // whose condition did not hold
	Used    map[string]Instruction // the items that are unpacked, with the instruction that takes each
}

type action struct {
	Instruction
	key    string // clean path
	number int    // in the order of execution
	skip   bool
}

// Simulate works out what a manifest does to a tree, or what the updater fails with: then the error is an *UpdateError,
// or one of the tree's. lookup finds the entries of the update's MAR.
//
// Updaters since the end of 2026 write all new files beside the old ones first, as drafts (see [Client].Drafts). What comes to
// something else with them is refused, with code 0, for a client that drafts, and for one of which that is not known; for
// none (nil) and for one that does not, it is what older updaters do.
func Simulate(m *Manifest, t Tree, lookup func(name string) (Item, bool), c *Client) (*Plan, error) {
	s := &simulation{
		Plan: Plan{Changes: make(map[string]*Change), Used: make(map[string]Instruction)},
		tree: t, lookup: lookup, dirs: make(map[string]bool), moved: make(map[string]bool),
		touched: make(map[string]int), backups: make(map[string]bool),
	}
	if err := s.parse(m); err != nil {
		return nil, err
	}
	if len(s.actions) == 0 {
		return nil, &UpdateError{Code: CodeNoActions, Err: errors.New("the update does nothing")}
	}
	for i := range s.actions {
		if err := s.prepare(&s.actions[i]); err != nil {
			return nil, err
		}
	}
	for i, a := range s.actions {
		s.actions[i].number = i
		if a.skip {
			continue
		}
		a.number = i
		if err := s.execute(a); err != nil {
			return nil, err
		}
	}
	if s.harm != nil {
		return nil, s.harm
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	if c != nil && (c.Drafts.Value || !c.Drafts.Known) {
		if err := s.drafts(); err != nil {
			return nil, err
		}
	}
	return &s.Plan, nil
}

type simulation struct {
	Plan
	tree    Tree
	lookup  func(name string) (Item, bool)
	actions []action
	dirs    map[string]bool // directories that were made
	moved   map[string]bool // directories that were moved away because a file goes there
	touched map[string]int  // by path, the first action that was executed on it
	backups map[string]bool // paths of which the old file is kept until the end
	rmdirs  []action
	// harm is what the updater would not notice, and leave behind. It counts where nothing else fails.
	harm error
}

// parse lists the actions.
func (s *simulation) parse(m *Manifest) error {
	list := m.Instructions
	if m.Type == "complete" {
		for _, name := range PrecompleteNames {
			k, err := s.tree.Stat(name)
			if err != nil {
				return err
			}
			if k != NodeFile {
				continue
			}
			text, err := s.tree.Read(name)
			if err != nil {
				return err
			}
			pre, err := ParsePrecomplete(text)
			if err != nil {
				return err
			}
			list = append(pre, list...)
			break
		}
	}
	for _, ins := range list {
		key := path.Clean(ins.Path)
		if ins.Op != OpRmrfdir {
			s.actions = append(s.actions, action{Instruction: ins, key: key})
			continue
		}
		k, err := s.tree.Stat(key)
		if err != nil {
			return wrong(ins, CodeRead, err)
		}
		var names []string
		switch k {
		case NodeNone:
			continue
		case NodeDir:
			if names, err = s.tree.Below(key); err != nil {
				return wrong(ins, CodeRead, err)
			}
			names = append(names, key+"/")
		default: // the updater walks what is there, and a file is all there is
			names = []string{key}
		}
		for _, n := range names {
			op := OpRemove
			if strings.HasSuffix(n, "/") {
				op = OpRmdir
			}
			// as the updater does it: the name is parsed as if it stood in the manifest
			found, err := parseInstruction(op, n, ins.Line)
			if err != nil {
				return err
			}
			s.actions = append(s.actions, action{Instruction: found, key: path.Clean(found.Path)})
		}
	}
	return nil
}

func (s *simulation) prepare(a *action) error {
	if a.Test != "" {
		k, err := s.before(a.Test)
		if err != nil {
			return wrong(a.Instruction, CodeRead, err)
		}
		if (k != NodeNone) == (a.Op == OpAddIfNot) {
			a.skip = true
			s.Skipped = append(s.Skipped, a.Instruction)
			return nil
		}
	}
	switch a.Op {
	case OpPatch, OpPatchIf:
		return s.consume(a.Instruction) // patches are unpacked before anything is changed
	case OpRemove, OpRmdir:
		p := a.Path
		if a.Op == OpRmdir {
			p = a.key
		}
		k, err := s.before(p)
		if err != nil {
			return wrong(a.Instruction, CodeRead, err)
		}
		switch {
		case k == NodeNone:
			a.skip = true
		case a.Op == OpRmdir && k == NodeFile:
			return wrong(a.Instruction, CodeExpectedDir, errors.New("a file is where a directory is to be removed"))
		case a.Op == OpRemove && k != NodeFile:
			return wrong(a.Instruction, CodeExpectedFile, errors.New("a directory is where a file is to be removed"))
		}
	}
	return nil
}

// before says what was at a path before the update. Something that is named with a slash at the end and is no directory
// is not there.
func (s *simulation) before(p string) (NodeKind, error) {
	k, err := s.tree.Stat(path.Clean(p))
	if k == NodeFile && strings.HasSuffix(p, "/") {
		k = NodeNone
	}
	return k, err
}

func (s *simulation) execute(a action) error {
	switch a.Op {
	case OpAdd, OpAddIf, OpAddIfNot:
		return s.add(a)
	case OpPatch, OpPatchIf:
		return s.patch(a)
	case OpRemove:
		k, err := s.now(a)
		if err != nil {
			return err
		}
		if k == NodeFile {
			s.set(a, &Change{}, true)
		}
	case OpRmdir:
		s.rmdirs = append(s.rmdirs, a)
	}
	return nil
}

// add puts an item in place. What there is moves away first; then come directories, and the item is looked up; then the
// file is opened, and the item unpacked.
func (s *simulation) add(a action) error {
	slash := a.key == "." || strings.HasSuffix(a.Path, "/")
	noFile := wrong(a.Instruction, CodeWrite, errors.New("not the path of a file"))
	k, err := s.now(a)
	if err != nil {
		return err
	}
	var cannot error // what opening the file gives
	switch {
	case k == NodeDir && slash:
		return noFile
	case k == NodeDir:
		if err := s.moveAway(a); err != nil {
			return err
		}
	case k == NodeNone || slash:
		cannot, err = s.parents(a)
		if err != nil {
			return err
		}
		if slash {
			cannot = noFile
		}
	}
	if cannot != nil {
		if _, ok := s.lookup(a.item()); ok {
			return cannot
		}
	}
	if err := s.consume(a.Instruction); err != nil {
		return err
	}
	it, _ := s.lookup(a.item())
	s.set(a, &Change{Blob: &Blob{Item: a.item()}, Mode: it.Mode & fs.ModePerm, Moded: true}, k == NodeFile)
	return nil
}

// moveAway is what becomes of a directory where a file goes: it is renamed, and at the end removed if it is empty.
func (s *simulation) moveAway(a action) error {
	inside, err := s.tree.Below(a.key)
	if err != nil {
		return wrong(a.Instruction, CodeRead, err)
	}
	if (len(inside) > 0 || s.dirs[a.key]) && s.harm == nil {
		s.harm = wrong(a.Instruction, 0, fmt.Errorf("a directory is where the file goes, and stays behind as %q", a.key+BackupSuffix))
	}
	s.moved[a.key] = true
	delete(s.dirs, a.key)
	return nil
}

func (s *simulation) patch(a action) error {
	k, err := s.now(a)
	if err != nil {
		return err
	}
	if k != NodeFile || strings.HasSuffix(a.Path, "/") {
		return wrong(a.Instruction, CodeRead, errors.New("there is no file to be patched"))
	}
	c := &Change{Blob: &Blob{Item: a.Item, Base: &Blob{File: a.key}}}
	if before := s.Changes[a.key]; before != nil {
		c.Blob.Base, c.Mode, c.Moded = before.Blob, before.Mode, before.Moded
	}
	s.set(a, c, true)
	return nil
}

// set notes what becomes of an action's path. backup says that there was a file, which the updater renames and keeps.
func (s *simulation) set(a action, c *Change, backup bool) {
	if _, ok := s.Changes[a.key]; !ok {
		s.Order = append(s.Order, a.key)
		s.touched[a.key] = a.number
	}
	if backup {
		s.backups[a.key] = true
	}
	c.By = a.Instruction
	s.Changes[a.key] = c
}

// finish lists the directories that go. The updater goes through the actions once more, in order: the old file of each is
// deleted then, not before. So a directory stays if the file in it that goes is named behind it.
//
// The names of old files are those of files as well: who has one of them loses it.
func (s *simulation) finish() error {
	for _, p := range s.Order {
		old := p + BackupSuffix
		c, changed := s.Changes[old]
		k, err := s.beside(old)
		switch {
		case err != nil:
			return wrong(s.Changes[p].By, CodeRead, err)
		case changed && c.Blob != nil:
			return wrong(c.By, 0, fmt.Errorf("the updater takes %q for its own, and deletes it after it has changed %q", old, p))
		case k == NodeDir || s.dirs[old]:
			return wrong(s.Changes[p].By, 0, fmt.Errorf("%q is a directory, where the updater puts what was at %q", old, p))
		case k != NodeNone && !changed:
			s.set(action{Instruction: s.Changes[p].By, key: old}, &Change{}, false)
		}
	}
	last := make(map[string]int) // by directory, the last action that deletes an old file in it
	for p := range s.backups {
		d := path.Dir(p)
		last[d] = max(last[d], s.touched[p]+1)
	}
	for _, a := range s.rmdirs {
		if a.number >= last[a.key] {
			s.Rmdirs = append(s.Rmdirs, a.key)
		}
	}
	return nil
}

// beside says what is at a name that the updater makes of a file's. Where that is too long nothing can be there.
func (s *simulation) beside(p string) (NodeKind, error) {
	if len(path.Base(p)) > 255 {
		return NodeNone, nil
	}
	return s.tree.Stat(p)
}

// drafts refuses what is something else where every new file is written beside its place before anything is moved or
// removed: then each patch reads the file as it was, the last instruction that writes a path wins, what is a file cannot be
// a directory yet, and the drafts have names of their own.
func (s *simulation) drafts() error {
	refuse := func(a action, format string, args ...any) error {
		return wrong(a.Instruction, 0, fmt.Errorf("newer updaters write all files before they move any: "+format, args...))
	}
	written := make(map[string]action)
	var order []action
	for _, a := range s.actions {
		switch a.Op {
		case OpAdd, OpAddIf, OpAddIfNot, OpPatch, OpPatchIf:
		default:
			continue
		}
		if a.skip {
			continue
		}
		if first, ok := written[a.key]; ok {
			return refuse(a, "what line %d writes there is lost", first.Line)
		}
		written[a.key], order = a, append(order, a)
		for d := path.Dir(a.key); d != "."; d = path.Dir(d) {
			k, err := s.tree.Stat(d)
			if err != nil {
				return wrong(a.Instruction, CodeRead, err)
			}
			if k == NodeFile {
				return refuse(a, "%q is still a file then", d)
			}
		}
	}
	for _, a := range order {
		draft := a.key + DraftSuffix
		k, err := s.beside(draft)
		if err != nil {
			return wrong(a.Instruction, CodeRead, err)
		}
		if _, changed := s.Changes[draft]; changed || k != NodeNone || s.dirs[draft] {
			return refuse(a, "%q is the name of its draft", draft)
		}
	}
	return nil
}

// now says what is at an action's path after the actions before it.
func (s *simulation) now(a action) (NodeKind, error) {
	k, err := s.at(a.key)
	if err != nil {
		return 0, wrong(a.Instruction, CodeRead, err)
	}
	return k, nil
}

func (s *simulation) at(p string) (NodeKind, error) {
	if s.dirs[p] {
		return NodeDir, nil
	}
	for d := p; len(s.moved) > 0 && d != "."; d = path.Dir(d) {
		if _, ok := s.Changes[p]; s.moved[d] && !ok {
			return NodeNone, nil
		}
	}
	if c, ok := s.Changes[p]; ok {
		if c.Blob == nil {
			return NodeNone, nil
		}
		return NodeFile, nil
	}
	k, err := s.tree.Stat(p)
	if k == NodeDirLink {
		k = NodeFile // as a name in a directory it is a file: writing replaces the link
	}
	return k, err
}

// parents makes the directories above an action's path. cannot is the error of whoever then writes a file there: that
// a file is where its own directory would be is only noticed by that.
func (s *simulation) parents(a action) (cannot, err error) {
	for i, r := range a.key {
		if r != '/' {
			continue
		}
		dir := a.key[:i]
		k, err := s.at(dir)
		if err != nil {
			return nil, wrong(a.Instruction, CodeRead, err)
		}
		if _, changed := s.Changes[dir]; k == NodeFile && !changed {
			// a link to a directory is used as one
			was, err := s.tree.Stat(dir)
			if err != nil {
				return nil, wrong(a.Instruction, CodeRead, err)
			}
			if was == NodeDirLink {
				k = NodeDir
			}
		}
		switch k {
		case NodeFile:
			err := wrong(a.Instruction, CodeWrite, fmt.Errorf("%q is a file and cannot hold another", dir))
			if strings.Contains(a.key[i+1:], "/") {
				return nil, err
			}
			return err, nil
		case NodeNone:
			s.dirs[dir] = true
		}
	}
	return nil, nil
}

// consume takes the item of an instruction. Each can be taken once.
func (s *simulation) consume(ins Instruction) error {
	name := ins.item()
	it, ok := s.lookup(name)
	if !ok {
		return wrong(ins, CodeCrash, fmt.Errorf("the archive has no entry %q", name))
	}
	if first, taken := s.Used[name]; taken {
		return wrong(ins, CodeRead, fmt.Errorf("entry %q was used by line %d already", name, first.Line))
	}
	if it.Size == 0 {
		return wrong(ins, CodeEntry, fmt.Errorf("entry %q has no bytes", name))
	}
	s.Used[name] = ins
	return nil
}

func wrong(ins Instruction, code Code, err error) error {
	var ue *UpdateError
	if errors.As(err, &ue) {
		return err
	}
	return &UpdateError{Code: code, Line: ins.Line, Op: ins.Op, Path: ins.Path, Err: err}
}
