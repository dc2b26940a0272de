package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// limits are those of what members hold; a patch may be longer than the file that it gives, as package partial/updater has
// it.
var (
	limits      = updater.Limits{}.WithDefaults()
	patchLimits = updater.Limits{Member: 32 + 13*updater.DefaultMemberLimit}.WithDefaults()
)

// patchKey names the work of applying one patch to one file.
type patchKey struct {
	old   digest
	patch *content
}

// prover works out what updates make of trees. What several tests share is worked out once: a patch of a large file is
// applied once for all locales. Safe for concurrent use.
type prover struct {
	known   *contents
	memory  *semaphore.Weighted
	size    int64 // of memory
	mu      sync.Mutex
	patched map[patchKey]*patchResult
}

// patchResult is what a patch gave.
type patchResult struct {
	done chan struct{}
	sum  digest
	size int64
	err  error
}

// applied is a MAR that is applied.
type applied struct {
	entries map[string]*entry
	plan    *updater.Plan
	from    *tree
	formats []updater.MemberFormat
}

// outcome is the tree that an update leaves.
type outcome struct {
	files map[string]treeFile
	blobs map[string]*updater.Blob
	plan  *updater.Plan
}

// refusal is why FROM's updater does not take a MAR, before it applies anything.
type refusal struct {
	code   Code
	status string
	detail string
}

func (r *refusal) Error() string { return r.detail }

// open reads the manifest that the client of FROM looks for, and works out what it does.
func (p *prover) open(ctx context.Context, from *tree, a *archive, client *updater.Client) (*applied, error) {
	u := &applied{entries: a.entries, from: from}
	name := client.Manifest().Name()
	m := u.entries[name]
	if m == nil {
		return nil, &refusal{FormatMismatch, "applying", fmt.Sprintf("FROM's updater looks for %s, which the MAR has not, and crashes", name)}
	}
	if u.formats = client.Members.Value; len(u.formats) == 0 {
		u.formats = []updater.MemberFormat{updater.FormatXZ}
	}
	head := updater.Instruction{Path: name}
	if err := m.Usable(head, u.formats...); err != nil {
		var failed *updater.UpdateError
		if errors.As(err, &failed) && client.Members.Known {
			return nil, &refusal{FormatMismatch, failed.Code.String(), fmt.Sprintf("FROM's updater reads %v: %v", u.formats, err)}
		}
		return nil, err
	}
	text, err := m.Content(ctx, updater.Limits{Member: updater.ManifestLimit}.WithDefaults())
	if err != nil {
		return nil, updater.ItemError(m.Member, head, err)
	}
	man, err := updater.ParseManifest(text)
	if err != nil {
		return nil, err
	}
	u.plan, err = updater.Simulate(man, from, func(name string) (updater.Item, bool) {
		m := u.entries[name]
		if m == nil {
			return updater.Item{}, false
		}
		return updater.Item{Size: m.Size, Mode: m.Mode}, true
	}, client)
	return u, err
}

// apply gives the tree that an update leaves of FROM. Errors are *updater.UpdateError where the updater would fail.
func (p *prover) apply(ctx context.Context, u *applied) (*outcome, error) {
	out := &outcome{files: make(map[string]treeFile, len(u.from.files)), blobs: map[string]*updater.Blob{}, plan: u.plan}
	for name, f := range u.from.files {
		out.files[name] = f
	}
	for item, ins := range u.plan.Used {
		if err := p.known.usable(ctx, u.entries[item], ins, u.formats); err != nil {
			return nil, err
		}
	}
	taken := map[string]bool{}
	for _, name := range u.plan.Order {
		c := u.plan.Changes[name]
		if c.Blob == nil {
			delete(out.files, name)
			continue
		}
		sum, size, err := p.blob(ctx, u, c.Blob, c.By)
		if err != nil {
			return nil, err
		}
		mark(c.Blob, taken)
		executable := mar.Executable(c.Mode)
		if !c.Moded {
			executable = u.from.files[name].executable
		}
		out.files[name] = treeFile{sum, size, executable}
		out.blobs[name] = c.Blob
	}
	for item, ins := range u.plan.Used { // what is overwritten later is unpacked as well
		if !taken[item] {
			if _, _, err := p.known.of(ctx, u.entries[item]); err != nil {
				return nil, p.unpackError(ctx, u.entries[item], ins, err)
			}
		}
	}
	return out, nil
}

func mark(b *updater.Blob, taken map[string]bool) {
	for ; b != nil; b = b.Base {
		if b.Item != "" {
			taken[b.Item] = true
		}
	}
}

func (p *prover) unpackError(ctx context.Context, e *entry, ins updater.Instruction, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return updater.ItemError(e.Member, ins, err)
}

// blob says what a blob holds.
func (p *prover) blob(ctx context.Context, u *applied, b *updater.Blob, by updater.Instruction) (digest, int64, error) {
	switch {
	case b.Base != nil:
		old, oldSize, err := p.blob(ctx, u, b.Base, by)
		if err != nil {
			return digest{}, 0, err
		}
		return p.patch(ctx, u, b, old, oldSize, by)
	case b.Item != "":
		sum, size, err := p.known.of(ctx, u.entries[b.Item])
		if err != nil {
			err = p.unpackError(ctx, u.entries[b.Item], by, err)
		}
		return sum, size, err
	}
	f := u.from.files[b.File]
	return f.sum, f.size, nil
}

// patch says what a patch makes of a file, and works it out where nobody has.
func (p *prover) patch(ctx context.Context, u *applied, b *updater.Blob, old digest, oldSize int64, by updater.Instruction) (digest, int64, error) {
	patch, err := p.known.recognise(ctx, u.entries[b.Item])
	if err != nil {
		return digest{}, 0, err
	}
	key := patchKey{old, patch}
	for {
		p.mu.Lock()
		known := p.patched[key]
		if known == nil {
			known = &patchResult{done: make(chan struct{})}
			p.patched[key] = known
			p.mu.Unlock()
			data, err := p.content(ctx, u, b, by)
			known.sum, known.size, known.err = sha256.Sum256(data), int64(len(data)), err
			if err != nil && ctx.Err() != nil {
				p.mu.Lock()
				delete(p.patched, key)
				p.mu.Unlock()
			}
			close(known.done)
			return known.sum, known.size, known.err
		}
		p.mu.Unlock()
		select {
		case <-known.done:
		case <-ctx.Done():
			return digest{}, 0, ctx.Err()
		}
		if known.err != nil && (errors.Is(known.err, context.Canceled) || errors.Is(known.err, context.DeadlineExceeded)) {
			continue // that was another's end
		}
		return known.sum, known.size, known.err
	}
}

// content works out a blob in memory. Bases are as large as their digests say; the memory is taken before.
func (p *prover) content(ctx context.Context, u *applied, b *updater.Blob, by updater.Instruction) ([]byte, error) {
	need := int64(1 << 20)
	for c := b; c != nil; c = c.Base {
		switch {
		case c.Item != "":
			size, err := u.entries[c.Item].ContentSize(patchLimits)
			if err != nil {
				return nil, updater.ItemError(u.entries[c.Item].Member, by, err)
			}
			need += size
		default:
			need += 3 * u.from.files[c.File].size
		}
	}
	need = min(need, p.size)
	if err := p.memory.Acquire(ctx, need); err != nil {
		return nil, err
	}
	defer p.memory.Release(need)
	return p.materialize(ctx, u, b, by)
}

func (p *prover) materialize(ctx context.Context, u *applied, b *updater.Blob, by updater.Instruction) ([]byte, error) {
	switch {
	case b.Base != nil:
		old, err := p.materialize(ctx, u, b.Base, by)
		if err != nil {
			return nil, err
		}
		return updater.ApplyPatch(ctx, old, u.entries[b.Item].Member, by, limits)
	case b.Item != "":
		data, err := u.entries[b.Item].Content(ctx, limits)
		if err != nil {
			return nil, p.unpackError(ctx, u.entries[b.Item], by, err)
		}
		return data, nil
	}
	return u.from.open(ctx, b.File)
}

// comparison is what differs after an update, and what of it was expected.
type comparison struct {
	diffs     []FileDiff
	text      []string // what differs in small text files
	explained map[string]int
}

// keptRule is the rule for channel settings that are the user's own: TO adds them only where they are absent.
const keptRule = "kept-settings"

// compare holds the updated tree against TO.
func (p *prover) compare(ctx context.Context, u *applied, got *outcome, to *tree, t *Test, o *RunOptions) (*comparison, error) {
	c := &comparison{explained: map[string]int{}}
	names := make([]string, 0, len(to.files))
	for name := range to.files {
		names = append(names, name)
	}
	for name := range got.files {
		if _, ok := to.files[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		updated, there := got.files[name]
		want, wanted := to.files[name]
		var kind string
		switch {
		case !there:
			kind = "missing"
		case !wanted:
			kind = "extra"
		case updated.sum != want.sum || updated.size != want.size:
			kind = "content"
		case updated.executable != want.executable:
			kind = "mode"
		default:
			continue
		}
		var a, b []byte
		load := func() ([]byte, []byte, error) {
			if a != nil || b != nil {
				return a, b, nil
			}
			var err error
			if a, err = p.updatedFile(ctx, u, got, name); err != nil {
				return nil, nil, err
			}
			b, err = to.open(ctx, name)
			return a, b, err
		}
		used, err := explain(o.rules, name, kind, t.Channel, o.now, load)
		if err != nil {
			return nil, err
		}
		if used == nil && p.meant(u, to, name, kind) {
			used = []string{keptRule}
		}
		if used != nil {
			for _, rule := range used {
				c.explained[rule]++
			}
			continue
		}
		d := FileDiff{Path: name, Kind: kind}
		if kind == "content" && len(c.diffs) < 20 {
			if _, _, err := load(); err != nil {
				return nil, err
			}
			offset := firstDifference(a, b)
			d.Offset = &offset
			c.text = append(c.text, lineDifference(name, a, b)...)
		}
		if len(c.diffs) < maxDiffs {
			c.diffs = append(c.diffs, d)
		}
	}
	return c, nil
}

// meant says whether a difference is one that TO's own instructions make on purpose: what is added only where something
// is there, or is not.
func (p *prover) meant(u *applied, to *tree, name, kind string) bool {
	ins, ok := to.adding[name]
	if !ok || ins.Test == "" {
		return false
	}
	tested, err := u.from.Stat(path.Clean(ins.Test))
	if err != nil {
		return false
	}
	switch ins.Op {
	case updater.OpAddIfNot:
		_, touched := u.plan.Changes[name]
		return kind != "extra" && tested != updater.NodeNone && !touched
	case updater.OpAddIf:
		return kind == "missing" && tested == updater.NodeNone
	}
	return false
}

// updatedFile is the content of a file after the update.
func (p *prover) updatedFile(ctx context.Context, u *applied, got *outcome, name string) ([]byte, error) {
	if b := got.blobs[name]; b != nil {
		return p.content(ctx, u, b, got.plan.Changes[name].By)
	}
	return u.from.open(ctx, name)
}

func firstDifference(a, b []byte) int64 {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(n)
}

// lineDifference shows which lines of a text stand only in the updated file (-) and only in TO's (+).
func lineDifference(name string, a, b []byte) []string {
	const largest, most = 1 << 20, 4
	if len(a) > largest || len(b) > largest || !utf8.Valid(a) || !utf8.Valid(b) || bytes.IndexByte(a, 0) >= 0 || bytes.IndexByte(b, 0) >= 0 {
		return nil
	}
	lines := func(text []byte) map[string]int {
		m := map[string]int{}
		for line := range strings.SplitSeq(string(text), "\n") {
			m[line]++
		}
		return m
	}
	only := func(mark string, text []byte, other map[string]int) []string {
		var list []string
		for line := range strings.SplitSeq(string(text), "\n") {
			if other[line]--; other[line] < 0 && len(list) < most {
				list = append(list, mark+short(line, 200))
			}
		}
		return list
	}
	list := slices.Concat(only("-", a, lines(b)), only("+", b, lines(a)))
	if len(list) == 0 {
		return nil
	}
	return append([]string{name + ":"}, list...)
}
