package partial

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

type nodeKind uint8

const (
	kindNone nodeKind = iota
	kindFile          // or a link to a file
	kindDir
	kindDirLink // a symbolic link to a directory
)

// A tree is what an update is applied to, as it was before. Paths are clean.
type tree interface {
	// stat says what is at a path.
	stat(p string) (nodeKind, error)
	// below lists everything below a directory, children before their parents, with a slash at the end of
	// directories. It does not list the directory itself.
	below(p string) ([]string, error)
	// read returns the content of a small file.
	read(p string) ([]byte, error)
}

// An item is an entry of an update's MAR.
type item struct {
	size int64
	mode fs.FileMode
}

// items looks up entries by name.
type items func(name string) (item, bool)

// A blob is the content of a file after an update, said in terms of what there is: a file of the tree as it was,
// an item, or a patch applied to another blob.
type blob struct {
	file string // a file of the tree
	item string // an item, whole or, with base, a patch
	base *blob
}

// A change is what becomes of one path.
type change struct {
	blob *blob       // nil: removed
	mode fs.FileMode // permissions, where moded
	// moded says that the mode comes from an item. Otherwise it is that of the file as it was.
	moded bool
	by    Instruction // the last one that touched the path
}

// A plan is what an update does to a tree.
type plan struct {
	changes map[string]*change
	order   []string // keys of changes, in the order in which they were first touched
	// rmdirs are directories to remove at the end, each if it is empty then. The order counts.
	rmdirs  []string
	skipped []Instruction // whose condition did not hold
	used    map[string]Instruction
}

type action struct {
	Instruction
	key  string // clean path
	skip bool
}

// simulate works out what a manifest does to a tree, or what the updater fails with.
func simulate(m *Manifest, t tree, lookup items) (*plan, error) {
	s := &simulation{
		plan: plan{changes: make(map[string]*change), used: make(map[string]Instruction)},
		tree: t, lookup: lookup, dirs: make(map[string]bool),
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
	for _, a := range s.actions {
		if a.skip {
			continue
		}
		if err := s.execute(a); err != nil {
			return nil, err
		}
	}
	return &s.plan, nil
}

type simulation struct {
	plan
	tree    tree
	lookup  items
	actions []action
	dirs    map[string]bool // directories that were made
}

// parse lists the actions.
func (s *simulation) parse(m *Manifest) error {
	list := m.Instructions
	if m.Type == "complete" {
		for _, name := range precompleteNames {
			k, err := s.tree.stat(name)
			if err != nil {
				return err
			}
			if k != kindFile {
				continue
			}
			text, err := s.tree.read(name)
			if err != nil {
				return err
			}
			pre, err := parsePrecomplete(text)
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
		k, err := s.tree.stat(key)
		if err != nil {
			return wrong(ins, CodeRead, err)
		}
		switch k {
		case kindNone:
			continue
		case kindDir:
		default:
			return wrong(ins, CodeFileOperation, errors.New("not a directory"))
		}
		names, err := s.tree.below(key)
		if err != nil {
			return wrong(ins, CodeRead, err)
		}
		for _, n := range append(names, key+"/") {
			a := action{Instruction: Instruction{Op: OpRemove, Path: n, Line: ins.Line}, key: path.Clean(n)}
			if strings.HasSuffix(n, "/") {
				a.Op = OpRmdir
			}
			s.actions = append(s.actions, a)
		}
	}
	return nil
}

func (s *simulation) prepare(a *action) error {
	if a.Test != "" {
		k, err := s.tree.stat(path.Clean(a.Test))
		if err != nil {
			return wrong(a.Instruction, CodeRead, err)
		}
		if (k != kindNone) == (a.Op == OpAddIfNot) {
			a.skip = true
			s.skipped = append(s.skipped, a.Instruction)
			return nil
		}
	}
	switch a.Op {
	case OpPatch, OpPatchIf:
		return s.consume(a.Instruction) // patches are unpacked before anything is changed
	case OpRemove, OpRmdir:
		k, err := s.tree.stat(a.key)
		if err != nil {
			return wrong(a.Instruction, CodeRead, err)
		}
		switch {
		case k == kindNone:
			a.skip = true
		case a.Op == OpRmdir && k == kindFile:
			return wrong(a.Instruction, CodeExpectedDir, errors.New("a file is where a directory is to be removed"))
		case a.Op == OpRemove && k != kindFile:
			return wrong(a.Instruction, CodeExpectedFile, errors.New("a directory is where a file is to be removed"))
		}
	}
	return nil
}

func (s *simulation) execute(a action) error {
	switch a.Op {
	case OpAdd, OpAddIf, OpAddIfNot:
		k, err := s.now(a)
		switch {
		case err != nil:
			return err
		case a.key == "." || strings.HasSuffix(a.Path, "/"):
			return wrong(a.Instruction, CodeWrite, errors.New("not the path of a file"))
		case k == kindDir:
			return wrong(a.Instruction, 0, fmt.Errorf("a directory is where the file goes, and stays behind as %q", a.key+backupSuffix))
		case k == kindNone:
			if err := s.parents(a); err != nil {
				return err
			}
		}
		if err := s.consume(a.Instruction); err != nil {
			return err
		}
		it, _ := s.lookup(a.item())
		s.set(a, &change{blob: &blob{item: a.item()}, mode: it.mode & fs.ModePerm, moded: true})
	case OpPatch, OpPatchIf:
		k, err := s.now(a)
		if err != nil {
			return err
		}
		if k != kindFile || strings.HasSuffix(a.Path, "/") {
			return wrong(a.Instruction, CodeRead, errors.New("there is no file to be patched"))
		}
		c := &change{blob: &blob{item: a.Item, base: &blob{file: a.key}}}
		if before := s.changes[a.key]; before != nil {
			c.blob.base, c.mode, c.moded = before.blob, before.mode, before.moded
		}
		s.set(a, c)
	case OpRemove:
		k, err := s.now(a)
		if err != nil {
			return err
		}
		if k == kindFile {
			s.set(a, &change{})
		}
	case OpRmdir:
		s.rmdirs = append(s.rmdirs, a.key)
	}
	return nil
}

func (s *simulation) set(a action, c *change) {
	if _, ok := s.changes[a.key]; !ok {
		s.order = append(s.order, a.key)
	}
	c.by = a.Instruction
	s.changes[a.key] = c
}

// now says what is at an action's path after the actions before it.
func (s *simulation) now(a action) (nodeKind, error) {
	k, err := s.at(a.key)
	if err != nil {
		return 0, wrong(a.Instruction, CodeRead, err)
	}
	return k, nil
}

func (s *simulation) at(p string) (nodeKind, error) {
	if s.dirs[p] {
		return kindDir, nil
	}
	if c, ok := s.changes[p]; ok {
		if c.blob == nil {
			return kindNone, nil
		}
		return kindFile, nil
	}
	k, err := s.tree.stat(p)
	if k == kindDirLink {
		k = kindFile // as a name in a directory it is a file: writing replaces the link
	}
	return k, err
}

// parents makes the directories above an action's path.
func (s *simulation) parents(a action) error {
	for i, r := range a.key {
		if r != '/' {
			continue
		}
		dir := a.key[:i]
		if s.dirs[dir] {
			continue
		}
		c, changed := s.changes[dir]
		k := kindNone
		if changed {
			if c.blob != nil {
				k = kindFile
			}
		} else {
			var err error
			if k, err = s.tree.stat(dir); err != nil {
				return wrong(a.Instruction, CodeRead, err)
			}
		}
		switch k {
		case kindFile:
			return wrong(a.Instruction, CodeWrite, fmt.Errorf("%q is a file and cannot hold another", dir))
		case kindNone:
			s.dirs[dir] = true
		}
	}
	return nil
}

// consume takes the item of an instruction. Each can be taken once.
func (s *simulation) consume(ins Instruction) error {
	name := ins.item()
	it, ok := s.lookup(name)
	if !ok {
		return wrong(ins, CodeCrash, fmt.Errorf("the archive has no entry %q", name))
	}
	if first, taken := s.used[name]; taken {
		return wrong(ins, CodeRead, fmt.Errorf("entry %q was used by line %d already", name, first.Line))
	}
	if it.size == 0 {
		return wrong(ins, CodeEntry, fmt.Errorf("entry %q has no bytes", name))
	}
	s.used[name] = ins
	return nil
}

func wrong(ins Instruction, code Code, err error) error {
	var ue *UpdateError
	if errors.As(err, &ue) {
		return err
	}
	return &UpdateError{Code: code, Line: ins.Line, Op: ins.Op, Path: ins.Path, Err: err}
}

// A memoryTree is the tree of a complete update.
type memoryTree struct {
	files map[string]*member
	dirs  map[string]bool
	text  func(m *member) ([]byte, error)
}

func newMemoryTree(files map[string]*member, text func(m *member) ([]byte, error)) *memoryTree {
	t := &memoryTree{files: files, dirs: map[string]bool{".": true}, text: text}
	for name := range files {
		for d := path.Dir(name); d != "." && d != "/"; d = path.Dir(d) {
			t.dirs[d] = true
		}
	}
	return t
}

func (t *memoryTree) stat(p string) (nodeKind, error) {
	switch {
	case t.files[p] != nil:
		return kindFile, nil
	case t.dirs[p]:
		return kindDir, nil
	}
	return kindNone, nil
}

func (t *memoryTree) below(p string) ([]string, error) {
	under := func(n string) bool { return p == "." || strings.HasPrefix(n, p+"/") }
	var names []string
	for n := range t.files {
		if under(n) {
			names = append(names, n)
		}
	}
	reverse(names)
	var dirs []string
	for d := range t.dirs {
		if d != "." && under(d) {
			dirs = append(dirs, d+"/")
		}
	}
	reverse(dirs)
	return append(names, dirs...), nil
}

func (t *memoryTree) read(p string) ([]byte, error) { return t.text(t.files[p]) }
