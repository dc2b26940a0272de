package updater

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/filelock"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

// WorkDir is the directory, inside the tree, in which Apply prepares an update:
//
//	.senbonzakura-update/new/0, 1, …   files as they will be
//	.senbonzakura-update/old/0, 1, …   files as they were, while the update is put in place
//	.senbonzakura-update/journal       what is being done: an interrupted update is undone
//	.senbonzakura-update/committed     the journal's name once all is in place: only cleaning up is left
const (
	WorkDir       = ".senbonzakura-update"
	newDir        = WorkDir + "/new"
	oldDir        = WorkDir + "/old"
	journalFile   = WorkDir + "/journal"
	journalTemp   = WorkDir + "/journal.new"
	committedFile = WorkDir + "/committed"
)

// ErrBusy matches the error of an Apply on a tree on which another one is at work. Nothing was done.
var ErrBusy = errors.New("another update of this tree is under way")

// ErrNotCleaned matches the error of an Apply that is done, and durably so, but could not remove its work directory.
// The next Apply removes it.
var ErrNotCleaned = errors.New("the update is applied, but its work directory could not be removed")

// ApplyOptions change how Apply works. The zero value is fine.
type ApplyOptions struct {
	// Client is the installation's own updater: what it refuses is refused, with a *ClientError, or an *UpdateError for a
	// member, a manifest or a patch that it does not read, as far as that is known; nothing is changed then. nil checks nothing
	// of it.
	Client *Client
	// Keys are those built into the client, of which one must have signed the update; none means that they are not
	// known.
	Keys []crypto.PublicKey
	// Skip names checks of the client to leave out.
	Skip []Check
	// Limits bound what compressed members may cost.
	Limits Limits
	// Progress is told how far the work is, from one goroutine; it must return quickly.
	Progress func(Event)
}

// Apply updates the tree in root as Gecko's updater would, except that it is strict about patches and all or nothing.
//
// Everything is worked out and written beside the tree first, in the directory .senbonzakura-update inside root: until
// then nothing has changed. Then the old files are moved there and the new ones into place. What is promised:
//
//   - Where Apply returns an error, the tree is the old one, unless errors.Is(err, ErrNotCleaned): then it is the new
//     one. Should undoing fail as well, the error says so, and the next Apply begins by undoing.
//   - A process that is killed at any point leaves the old tree, the new one, or a journal. The next Apply on that root, of
//     any update, begins by undoing what the journal says, or cleaning up where all was in place. A second Apply of
//     the same update then gives the new tree. It returns nil, except where the first was killed when at most its empty work
//     directory was left: the tree is the new one then, and the update no longer fits it.
//   - The same holds after a power cut, as far as the file system keeps what was synced: new files, the journal and all
//     directories concerned are.
//
// Nothing outside root is read or written, also where links lead out of it: that is an error. Root must be on one file
// system, and nothing else may change the tree meanwhile. A second Apply on the same directory, by this process or another
// one on this machine, is refused with [ErrBusy], where the file system has locks: it would take the first one's work for
// that of a process that was killed, and undo it.
//
// Modes are those of the updater: added files have the permissions of the entry, less the process's umask; patched
// ones keep theirs. Errors of the update itself are *UpdateError, with the updater's own number.
func Apply(ctx context.Context, root *os.Root, p *mar.Reader, opts *ApplyOptions) error {
	dir, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	lock, err := filelock.TryDir(dir)
	switch {
	case errors.Is(err, filelock.ErrBusy):
		return fmt.Errorf("apply: %w", ErrBusy)
	case err == nil:
		defer func() { _ = lock.Unlock() }() // it ends with the process at the latest
	} // else the file system has no locks, which is no reason to have no update
	return apply(ctx, rootFS{root}, p, opts)
}

func apply(ctx context.Context, fsys filesystem, p *mar.Reader, opts *ApplyOptions) error {
	if opts == nil {
		opts = &ApplyOptions{}
	}
	a := &applier{fs: fsys, mar: p, lim: opts.Limits.WithDefaults(), progress: opts.Progress, client: opts.Client, skip: opts.Skip}
	sum, err := identify(ctx, p)
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	a.journal = journal{Version: 1, Update: sum}
	finished, err := a.recover()
	if err != nil || finished == a.journal.Update {
		return err
	}
	if opts.Client != nil {
		verdicts, err := opts.Client.CheckMAR(ctx, p, opts.Keys...)
		if err == nil {
			err = verdicts.Skip(opts.Skip...).Err()
		}
		if err != nil {
			return fmt.Errorf("apply: %w", err)
		}
	}
	plan, err := a.plan(ctx)
	if err == nil && opts.Client != nil {
		err = Verdicts{opts.Client.keepsSettings(plan)}.Skip(opts.Skip...).Err()
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := a.stage(ctx, plan); err != nil {
		if cerr := a.clean(); cerr != nil {
			err = fmt.Errorf("%w; and the work directory is left: %w", err, cerr)
		}
		return fmt.Errorf("apply: %w", err)
	}
	return a.commit()
}

// identify returns a digest of everything that an update does: names, modes and content of its entries.
func identify(ctx context.Context, p *mar.Reader) (string, error) {
	h := sha256.New()
	for _, f := range p.Files() {
		h.Write(fmt.Appendf(nil, "%q %o %d\n", f.Name, uint32(f.Mode), f.Size))
		if _, err := stream.Copy(ctx, h, f.Section()); err != nil {
			return "", fmt.Errorf("read %q: %w", f.Name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A journal says what an update does to the tree, so that it can be undone.
type journal struct {
	Version int            `json:"version"`
	Update  string         `json:"update"` // digest of the archive
	Files   []journalEntry `json:"files"`
	Dirs    []string       `json:"dirs"`   // that are made, parents first
	Rmdirs  []string       `json:"rmdirs"` // that are removed at the end if they are empty, in this order
}

// A journalEntry is a file that changes. Its place in the list is its name in the work directory.
type journalEntry struct {
	Path    string `json:"path"`
	Existed bool   `json:"existed"` // there is one to be moved away
	Staged  bool   `json:"staged"`  // there is one to be moved into place
}

type applier struct {
	fs       filesystem
	mar      *mar.Reader
	lim      Limits
	progress func(Event)
	journal  journal
	client   *Client // nil where nobody asks
	skip     []Check
}

// asks says whether a check of the client is to be made.
func (a *applier) asks(c Check) bool { return a.client != nil && !slices.Contains(a.skip, c) }

// formats returns those of members that may be there; found is that of the manifest.
func (a *applier) formats(found MemberFormat) []MemberFormat {
	if a.asks(CheckMembers) && a.client.Members.Known {
		return a.client.Members.Value
	}
	return []MemberFormat{cmp.Or(found, FormatXZ)}
}

// manifests returns the versions of the manifest that may be followed, the newest first.
func (a *applier) manifests() []ManifestVersion {
	if a.asks(CheckManifests) && a.client.Manifests.Known {
		return []ManifestVersion{a.client.Manifest()}
	}
	return []ManifestVersion{ManifestV3, ManifestV2}
}

// patches says whether the client applies the patches that are used.
func (a *applier) patches(ctx context.Context, plan *Plan) error {
	if !a.asks(CheckPatches) || !a.client.Patches.Known {
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(plan.Used)) {
		if ins := plan.Used[n]; ins.Op == OpPatch || ins.Op == OpPatchIf {
			m := MemberOf(a.mar.Lookup(n))
			format, r, err := m.openPatch(ctx, a.lim)
			if err != nil {
				continue // who applies it says so
			}
			r.Close()
			if v := a.client.CheckPatchFormats(format.Name()); v.Answer == Fails {
				return wrong(ins, v.Code, errors.New(v.Reason))
			}
		}
	}
	return nil
}

func newName(i int) string { return newDir + "/" + strconv.Itoa(i) }
func oldName(i int) string { return oldDir + "/" + strconv.Itoa(i) }

// plan works out what the update does to the tree.
func (a *applier) plan(ctx context.Context) (*Plan, error) {
	if files := a.mar.Files(); len(files) > 0 && files[len(files)-1].Name == "" {
		return nil, &UpdateError{Code: CodeRead, Err: errors.New("the last entry has no name: the updater takes the index for cut off")}
	}
	var text []byte
	var name string
	var format MemberFormat
	for _, v := range a.manifests() {
		if v < ManifestV2 {
			return nil, fmt.Errorf("the client looks for %s, whose instructions are not supported", v.Name())
		}
		f := a.mar.Lookup(v.Name())
		if f == nil {
			continue
		}
		m := MemberOf(f)
		name = m.Name
		var err error
		if format, err = m.Format(); err != nil {
			return nil, err
		}
		if err := m.Usable(Instruction{}, a.formats(format)...); err != nil {
			return nil, err
		}
		if text, err = m.Content(ctx, Limits{Member: ManifestLimit, Ratio: a.lim.Ratio}); err != nil {
			return nil, ItemError(m, Instruction{}, err)
		}
		break
	}
	if name == "" {
		return nil, &UpdateError{Code: CodeCrash, Path: a.manifests()[0].Name(), Err: errors.New("the archive has no manifest that the updater looks for")}
	}
	man, err := ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, ins := range man.Instructions {
		if first, _, _ := strings.Cut(path.Clean(ins.Path), "/"); strings.EqualFold(first, WorkDir) {
			return nil, wrong(ins, 0, errors.New("is where Apply itself works"))
		}
	}
	plan, err := Simulate(man, diskTree{a.fs}, func(name string) (Item, bool) {
		f := a.mar.Lookup(name)
		if f == nil {
			return Item{}, false
		}
		return Item{Size: f.Size, Mode: f.Mode}, true
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	used := make([]string, 0, len(plan.Used))
	for n := range plan.Used {
		used = append(used, n)
	}
	slices.Sort(used)
	for _, n := range used {
		if err := MemberOf(a.mar.Lookup(n)).Usable(plan.Used[n], a.formats(format)...); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := a.patches(ctx, plan); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return plan, nil
}

// stage writes all new files and the journal into the work directory.
func (a *applier) stage(ctx context.Context, plan *Plan) error {
	for _, d := range []string{WorkDir, newDir, oldDir} {
		if err := a.fs.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	j := &a.journal
	made := make(map[string]bool)
	for _, name := range plan.Order {
		c := plan.Changes[name]
		_, err := a.fs.Lstat(name)
		if err != nil && !absent(err) {
			return err
		}
		e := journalEntry{Path: name, Existed: err == nil, Staged: c.Blob != nil}
		if !e.Existed && !e.Staged {
			continue
		}
		j.Files = append(j.Files, e)
		if !e.Staged {
			continue
		}
		for i, r := range name {
			if r != '/' || made[name[:i]] {
				continue
			}
			made[name[:i]] = true
			missing, err := a.missing(name[:i], plan)
			if err != nil {
				return err
			}
			if missing {
				j.Dirs = append(j.Dirs, name[:i])
			}
		}
	}
	j.Rmdirs = plan.Rmdirs
	var total int64
	for _, e := range j.Files {
		if c := plan.Changes[e.Path]; e.Staged {
			total += a.mar.Lookup(c.Blob.Item).Size
		}
	}
	steps := counter(StepStaging, a.progress).Start(total)
	for i, e := range j.Files {
		if !e.Staged {
			continue
		}
		c := plan.Changes[e.Path]
		if err := a.stageFile(ctx, newName(i), c); err != nil {
			return err
		}
		steps.Add(e.Path, a.mar.Lookup(c.Blob.Item).Size)
	}
	for _, d := range []string{newDir, oldDir} {
		if err := a.fs.SyncDir(d); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return err
	}
	if err := a.write(journalTemp, data); err != nil {
		return err
	}
	return a.fs.SyncDir(WorkDir)
}

// missing reports whether a directory has to be made: it is not there, or is a file that is moved away.
func (a *applier) missing(dir string, plan *Plan) (bool, error) {
	if c := plan.Changes[dir]; c != nil {
		return true, nil
	}
	_, err := a.fs.Lstat(dir)
	if absent(err) {
		return true, nil
	}
	return false, err
}

func (a *applier) write(name string, data []byte) error {
	f, err := a.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// stageFile writes one new file.
func (a *applier) stageFile(ctx context.Context, name string, c *Change) error {
	perm := fs.FileMode(0o600)
	if c.Moded {
		perm = c.Mode // the umask applies, as in the updater
	}
	f, err := a.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return wrong(c.By, CodeWrite, err)
	}
	keep, err := a.fill(ctx, name, f, c.Blob, c.By)
	if err == nil {
		if !c.Moded {
			err = a.fs.Chmod(name, keep)
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			err = wrong(c.By, CodeWrite, err)
		}
	}
	if cerr := f.Close(); err == nil && cerr != nil {
		err = wrong(c.By, CodeWrite, cerr)
	}
	return err
}

// fill writes what a blob stands for. It returns the mode of the file that it goes back to, if there is one.
func (a *applier) fill(ctx context.Context, name string, dst file, b *Blob, by Instruction) (fs.FileMode, error) {
	m := MemberOf(a.mar.Lookup(b.Item))
	if b.Base == nil {
		r, err := m.Open(a.lim)
		if err == nil {
			defer r.Close()
			_, err = stream.Copy(ctx, dst, r)
		}
		if err != nil && ctx.Err() == nil {
			if errors.Is(err, ErrMember) || errors.Is(err, ErrLimit) {
				return 0, ItemError(m, by, err)
			}
			err = wrong(by, CodeWrite, err)
		}
		return 0, err
	}
	var old file
	var keep fs.FileMode
	var err error
	if b.Base.Item == "" {
		if old, err = openRegular(a.fs, b.Base.File); err != nil {
			return 0, wrong(by, CodeRead, err)
		}
	} else {
		// a patch on what this very update writes: work that out beside it first
		base := name + ".base"
		tmp, err := a.fs.OpenFile(base, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return 0, wrong(by, CodeWrite, err)
		}
		old = tmp
		if keep, err = a.fill(ctx, base, tmp, b.Base, by); err != nil {
			old.Close()
			return 0, err
		}
	}
	defer old.Close()
	info, err := old.Stat()
	if err != nil {
		return 0, wrong(by, CodeRead, err)
	}
	if b.Base.Item == "" {
		keep = info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	}
	err = m.withPatch(ctx, by, a.lim, func(f PatchFormat, patch io.Reader, opts PatchOptions) error {
		_, err := f.Apply(ctx, dst, old, info.Size(), patch, opts)
		return err
	})
	return keep, err
}

// commit puts everything into place. Until the journal has its second name, it is undone on any error.
func (a *applier) commit() error {
	// From here to the end a few renames remain: they are not worth interrupting.
	if err := a.fs.Rename(journalTemp, journalFile); err != nil {
		return errors.Join(fmt.Errorf("apply: %w", err), a.undo())
	}
	if err := a.swap(); err != nil {
		return errors.Join(fmt.Errorf("apply: %w", err), a.undo())
	}
	if err := a.fs.Rename(journalFile, committedFile); err != nil {
		if _, serr := a.fs.Lstat(committedFile); serr != nil {
			return errors.Join(fmt.Errorf("apply: %w", err), a.undo())
		}
	}
	return a.finish()
}

// swap moves old files away and new ones into place.
func (a *applier) swap() error {
	if err := a.fs.SyncDir(WorkDir); err != nil {
		return err
	}
	j := &a.journal
	steps := counter(StepCommitting, a.progress).Start(int64(len(j.Files)))
	touched := map[string]bool{oldDir: true}
	for i, e := range j.Files {
		if e.Existed {
			if err := a.fs.Rename(e.Path, oldName(i)); err != nil {
				return wrong(Instruction{Path: e.Path}, CodeFileOperation, err)
			}
		}
	}
	for _, d := range j.Dirs {
		if err := a.fs.Mkdir(d, 0o755); err != nil {
			return wrong(Instruction{Path: d}, CodeWrite, err)
		}
		touched[path.Dir(d)] = true
	}
	for i, e := range j.Files {
		touched[path.Dir(e.Path)] = true
		if e.Staged {
			if err := a.fs.Rename(newName(i), e.Path); err != nil {
				return wrong(Instruction{Path: e.Path}, CodeWrite, err)
			}
		}
		steps.Add(e.Path, 1)
	}
	dirs := make([]string, 0, len(touched))
	for d := range touched {
		dirs = append(dirs, d)
	}
	slices.Sort(dirs)
	for _, d := range dirs {
		// the directory of a file that was removed may have become a file
		if err := a.fs.SyncDir(d); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// undo gives back the old tree and removes the work directory.
func (a *applier) undo() error {
	if err := a.restore(); err != nil {
		return fmt.Errorf("the old files could not be put back: apply again, or take them from %s: %w", oldDir, err)
	}
	return a.clean()
}

// restore undoes what swap has done so far. It may itself be interrupted and begin again.
func (a *applier) restore() error {
	if _, err := a.fs.Lstat(journalFile); absent(err) {
		return nil // swap never began
	}
	j := &a.journal
	dirs := map[string]bool{}
	for _, e := range j.Files {
		if e.Existed || !e.Staged {
			continue
		}
		// Nothing was there before, so what is there now is ours.
		if err := a.fs.Remove(e.Path); err != nil && !absent(err) {
			return err
		}
		dirs[path.Dir(e.Path)] = true
	}
	for i, e := range j.Files {
		if !e.Existed || !e.Staged {
			continue
		}
		if _, err := a.fs.Lstat(oldName(i)); absent(err) {
			continue
		} else if err != nil {
			return err
		}
		if err := a.removeFile(e.Path); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(j.Dirs) {
		if info, err := a.fs.Lstat(d); err == nil && info.IsDir() {
			if err := a.fs.Remove(d); err != nil {
				return err
			}
			dirs[path.Dir(d)] = true
		} else if err != nil && !absent(err) {
			return err
		}
	}
	for i, e := range j.Files {
		if !e.Existed {
			continue
		}
		dirs[path.Dir(e.Path)] = true
		if err := a.fs.Rename(oldName(i), e.Path); err != nil && !absent(err) {
			return err
		}
	}
	list := make([]string, 0, len(dirs))
	for d := range dirs {
		list = append(list, d)
	}
	slices.Sort(list)
	for _, d := range list {
		if err := a.fs.SyncDir(d); err != nil && !absent(err) {
			return err
		}
	}
	if err := a.fs.Remove(journalFile); err != nil && !absent(err) {
		return err
	}
	return a.fs.SyncDir(WorkDir)
}

// removeFile removes a file that was put in place. A directory there is one that was made for files below it.
func (a *applier) removeFile(name string) error {
	info, err := a.fs.Lstat(name)
	switch {
	case absent(err):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return nil
	}
	return a.fs.Remove(name)
}

// finish makes what was committed last, removes directories and cleans up.
func (a *applier) finish() error {
	// The old files may only go when it is certain that they are not needed.
	if err := a.fs.SyncDir(WorkDir); err != nil {
		return fmt.Errorf("apply: %w: %w", ErrNotCleaned, err)
	}
	for _, d := range a.journal.Rmdirs {
		if info, err := a.fs.Lstat(d); err == nil && info.IsDir() {
			a.fs.Remove(d) //nolint:errcheck // not empty or failing is harmless: the updater goes on as well
		}
	}
	if err := a.clean(); err != nil {
		return fmt.Errorf("apply: %w: %w", ErrNotCleaned, err)
	}
	return nil
}

// clean removes the work directory, the journal last.
func (a *applier) clean() error {
	for _, d := range []string{newDir, oldDir} {
		list, err := a.fs.ReadDir(d)
		if absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := a.fs.Remove(d + "/" + e.Name()); err != nil && !absent(err) {
				return err
			}
		}
		if err := a.fs.Remove(d); err != nil && !absent(err) {
			return err
		}
	}
	for _, f := range []string{journalTemp, committedFile, WorkDir} {
		if err := a.fs.Remove(f); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// recover deals with what an interrupted Apply has left. It returns the digest of the update that turned out to be
// finished, if any.
func (a *applier) recover() (finished string, err error) {
	info, err := a.fs.Lstat(WorkDir)
	switch {
	case absent(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("apply: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("apply: %q is not a directory", WorkDir)
	}
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("apply: recover from an interrupted update: %w", err)
	}
	if j, ok, err := a.load(committedFile); err != nil {
		return fail(err)
	} else if ok {
		b := &applier{fs: a.fs, journal: j}
		return j.Update, b.finish()
	}
	j, ok, err := a.load(journalFile)
	if err != nil {
		return fail(err)
	}
	b := &applier{fs: a.fs, journal: j}
	if ok {
		if err := b.restore(); err != nil {
			return fail(err)
		}
	}
	if err := b.clean(); err != nil {
		return fail(err)
	}
	return "", nil
}

// load reads a journal. It is as hostile as anything on disk: its paths are used through the root only.
func (a *applier) load(name string) (j journal, ok bool, err error) {
	f, err := openRegular(a.fs, name)
	if absent(err) {
		return j, false, nil
	}
	if err != nil {
		return j, false, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64<<20))
	if err != nil {
		return j, false, err
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return j, false, fmt.Errorf("%s: %w", name, err)
	}
	if j.Version != 1 {
		return j, false, fmt.Errorf("%s: unknown version %d", name, j.Version)
	}
	return j, true, nil
}
