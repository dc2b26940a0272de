package partial

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

// PatchFormats names the formats of the patches that recipes can choose from.
func PatchFormats() []string {
	var list []string
	for _, f := range updater.PatchFormats() {
		if slices.ContainsFunc(ownStrategies(), func(s strategy) bool { return s.Format() == f.Name() }) {
			list = append(list, f.Name())
		}
	}
	return list
}

// A strategy is one way to make the patch of a file.
type strategy struct {
	Differ
	name string // in reports
	// suits says what comes of it; nil means that nothing is known.
	suits func(*likeness) suit
}

// memory returns how many bytes the search needs at most beyond the two files.
func (s strategy) memory(oldSize, newSize int64) int64 {
	if d, ok := s.Differ.(memoryDiffer); ok {
		return d.PeakMemory(oldSize, newSize)
	}
	return 9 * oldSize
}

// buffer returns how many bytes of the patch are in memory when the search is over: of a Zucchini patch all, which is
// hardly ever longer than the new file.
func (s strategy) buffer(newSize int64) int64 {
	if s.Format() == updater.PatchMBDIFF10 {
		return 0
	}
	return newSize
}

// suit says, before a patch is made, whether it can be the smallest.
type suit int

const (
	maybe  suit = iota
	beaten      // another strategy's is smaller
	surely      // it is
)

// Names of our own strategies in reports.
const (
	strategyMBDIFF10   = updater.PatchMBDIFF10
	strategyReferences = updater.PatchZucchini            // corrects the references of executables
	strategyPlain      = updater.PatchZucchini + "-plain" // takes everything for bytes
)

// choiceVersion names the rules by which strategies are left out. It changes whenever another one might be chosen for some
// pair of files.
const choiceVersion = "choice/1"

// strategies returns how patches are made, in the order in which they are tried. Everything about the formats is settled.
func (r Recipe) strategies() []strategy {
	if r.Differ != nil {
		return []strategy{{Differ: r.Differ, name: r.Differ.ID()}}
	}
	var list []strategy
	for _, s := range ownStrategies() {
		for _, f := range r.Formats {
			if s.Format() == f {
				list = append(list, s)
				break
			}
		}
	}
	return list
}

func ownStrategies() []strategy {
	return []strategy{
		{zucchini.New(zucchini.Options{}), strategyReferences, (*likeness).references},
		{zucchini.New(zucchini.Options{Plain: true}), strategyPlain, (*likeness).plain},
		{bsdiff.New(bsdiff.Options{}), strategyMBDIFF10, nil},
	}
}

// strategiesID names everything that decides which of some patches a file gets, but for what compresses them.
func strategiesID(list []strategy) string {
	if len(list) == 1 {
		return list[0].ID()
	}
	ids := []string{choiceVersion}
	for _, s := range list {
		ids = append(ids, s.ID())
	}
	return strings.Join(ids, ",")
}

// differsID names what makes the patches. Where that is left to the client it names all that can be.
func (r Recipe) differsID() string {
	if r.Differ == nil && len(r.Formats) == 0 {
		return ofClient + "(" + strategiesID(ownStrategies()) + ")"
	}
	return strategiesID(r.strategies())
}

// formats are those that patches may be in.
func (r Recipe) formats() []string {
	if r.Differ != nil {
		return []string{r.Differ.Format()}
	}
	return r.Formats
}

// patchID names everything that decides about the bytes of a patch. It is part of every PatchKey.
func (r Recipe) patchID(d Differ) string {
	return fmt.Sprintf("differ=%s patches=%s", d.ID(), r.Compression.id(r.Compression.Patches))
}

// A choice says of each strategy of a recipe why no patch is made with it; "" where one is. It depends on the contents of the
// two files alone, and is kept in the cache beside their patches.
type choice []string

// choose chooses strategies by the two files.
func choose(list []strategy, old, new []byte) choice {
	out := make(choice, len(list))
	if len(list) == 1 {
		return out
	}
	files := &likeness{old: old, new: new}
	left := len(list) // that may be made yet
	for i, s := range list {
		if s.suits == nil {
			continue
		}
		switch s.suits(files) {
		case beaten:
			if left > 1 {
				out[i] = files.why
				left--
			}
		case surely:
			for j := range out {
				if j != i && out[j] == "" {
					out[j] = files.why
				}
			}
			return out
		}
	}
	return out
}

// likeness is what is found out about two files, when it is asked for.
type likeness struct {
	old, new []byte
	why      string // of the last answer
	covered  *float64
	same     *float64
}

// Sizes in bytes of the larger of two files, see docs/engine.md for what was measured. Up to small a patch is made in each
// way: what is smallest differs from file to file, and to find out costs nothing. Up to medium that holds for files of
// which the old one has little.
const (
	small  = 64 << 10
	medium = 8 << 20
)

func (l *likeness) size() int64 { return int64(max(len(l.old), len(l.new))) }

// cover returns the share of the new file that is in executables whose references are found.
func (l *likeness) cover() float64 {
	if l.covered == nil {
		l.covered = new(float64)
		*l.covered = float64(zucchini.Covered(l.old, l.new)) / float64(max(len(l.new), 1))
	}
	return *l.covered
}

// share returns the share of the new file that stands in the old one.
func (l *likeness) share() float64 {
	if l.same == nil {
		l.same = new(float64)
		*l.same = sameShare(l.old, l.new)
	}
	return *l.same
}

// references says what comes of correcting references. Where nearly all of a file is a program whose references are found,
// that made the smallest patch of every pair that was measured.
func (l *likeness) references() suit {
	switch c := l.cover(); {
	case c == 0:
		l.why = "no program whose references are found in both files"
		return beaten
	case c >= 0.9 && l.size() > small && l.share() < 0.95:
		l.why = "not tried: nearly all of it is a program whose references are found"
		return surely
	}
	return maybe
}

// plain says what comes of Zucchini without references. It says nearly nothing about stretches that are the same, where
// MBDIFF10 has about 15 bytes for 100 kB of them. Apart from that their sizes are within a few hundredths of each other.
func (l *likeness) plain() suit {
	switch {
	case len(l.old) == 0 || len(l.new) == 0:
		l.why = "the format knows no empty files"
		return beaten
	case l.size() <= small || l.cover() > 0:
		return maybe
	}
	switch s := l.share(); {
	case s >= 0.95:
		l.why = fmt.Sprintf("not tried: about %.1f %% of it stand in the old file as they are", 100*s)
		return surely
	case s < 0.8 && l.size() > medium:
		l.why = fmt.Sprintf("not tried: only about %.0f %% of it stand in the old file as they are", 100*s)
		return beaten
	}
	return maybe
}

// sameShare returns about which share of the new file, from 0 to 1, stands in the old one in stretches of half a kilobyte and
// more. It looks at both files once; of large ones it compares a part.
func sameShare(old, new []byte) float64 {
	sample := uint64(1)
	for n := max(len(old), len(new)); n > 4<<20; n /= 2 {
		sample *= 2
	}
	had := make(map[uint64]struct{})
	pieces(old, sample, func(piece []byte) { had[hashOf(piece)] = struct{}{} })
	var same, all int
	pieces(new, sample, func(piece []byte) {
		all += len(piece)
		if _, ok := had[hashOf(piece)]; ok {
			same += len(piece)
		}
	})
	return float64(same) / float64(max(all, 1))
}

// pieces cuts a file where its content says so, about every half a kilobyte, so that what is the same is cut in the same
// places, and visits one in sample of the pieces, by the content before them.
func pieces(file []byte, sample uint64, visit func(piece []byte)) {
	const (
		least = 64 // as many bytes decide about a cut as the state has bits
		most  = 4 << 10
		cut   = 512 - 1 // about one place in 512
	)
	var noise [256]uint64
	for i := range noise {
		noise[i] = mix(uint64(i))
	}
	state := uint64(0)
	for begin := 0; begin < len(file); {
		taken := (state>>20)%sample == 0
		end := min(begin+most, len(file))
		at := min(begin+least, end)
		for _, b := range file[begin:at] {
			state = state<<1 + noise[b]
		}
		for at < end && (state>>40)&cut != 0 {
			state = state<<1 + noise[file[at]]
			at++
		}
		if taken {
			visit(file[begin:at])
		}
		begin = at
	}
}

// mix spreads the bits of a number.
func mix(x uint64) uint64 {
	x = (x + 1) * 0x9E3779B97F4A7C15
	x = (x ^ x>>29) * 0xBF58476D1CE4E5B9
	return x ^ x>>32
}

func hashOf(piece []byte) uint64 {
	h := uint64(len(piece))
	for ; len(piece) >= 8; piece = piece[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(piece))
	}
	for _, b := range piece {
		h = mix(h ^ uint64(b))
	}
	return h
}

// A Candidate is a way in which the patch of a file was made, or could have been.
type Candidate struct {
	// Strategy is mbdiff10, zucchini (which corrects the references of executables) or zucchini-plain (which takes
	// everything for bytes).
	Strategy string `json:"strategy"`
	Format   string `json:"format"` // of the patch
	// Size is what the patch takes in the update, in bytes; 0 where there is none.
	Size int64 `json:"size,omitempty"`
	// Why says why there is none, "" where there is one.
	Why string `json:"why,omitempty"`
}

// A watch is told how far the work on a group is.
type watch struct {
	chosen  func(most int64)      // bytes that the searches need at most, beyond the two files
	matched func(last strategy)   // when the last of the searches is over
	tell    func(done, all int64) // as differs go on
}

// A contest is the search for the smallest patch of a group.
type contest struct {
	*patcher
	step    *step
	limit   int64    // in bytes, from which on the whole file is smaller
	key     PatchKey // with what both files hold
	cached  bool     // whether the cache is asked
	choice  choice   // nil: not known yet
	patches []entry  // one for each strategy
}

// entry is what is known of one strategy's patch.
type entry struct {
	asked, known, cached bool
	patch                []byte // nil: it has limit bytes or more
}

// ask looks up what the cache knows and reports whether that is all.
func (c *contest) ask(ctx context.Context) bool {
	if !c.cached {
		return false
	}
	if c.choice == nil {
		if c.choice = c.caches.choice(ctx, c.choiceKey(), len(c.strategies)); c.choice == nil {
			return false
		}
	}
	all := true
	for i, s := range c.strategies {
		e := &c.patches[i]
		if c.choice[i] != "" {
			continue
		}
		if !e.asked {
			e.asked = true
			e.patch, e.known = c.caches.get(ctx, c.patchKey(s), c.limit)
			e.cached = e.known
		}
		all = all && e.known
	}
	return all
}

func (c *contest) patchKey(s strategy) PatchKey {
	return PatchKey{c.key.Old, c.key.New, c.recipe.patchID(s)}
}

func (c *contest) choiceKey() PatchKey {
	return PatchKey{c.key.Old, c.key.New, strategiesID(c.strategies)}
}

// make makes the patches that are missing.
func (c *contest) make(ctx context.Context, old, new []byte, w watch) error {
	if c.choice == nil {
		c.choice = choose(c.strategies, old, new)
		if c.cached && !c.noVerify && len(c.strategies) > 1 {
			c.caches.putChoice(ctx, c.choiceKey(), c.choice)
		}
		c.ask(ctx) // patches that were made for another recipe
	}
	var todo []int
	for i := range c.strategies {
		if c.choice[i] == "" && !c.patches[i].known {
			todo = append(todo, i)
		}
	}
	most := int64(0)
	for _, i := range todo {
		most = max(most, c.strategies[i].memory(int64(len(old)), int64(len(new))))
	}
	w.chosen(most)
	for n, i := range todo {
		s, e := c.strategies[i], &c.patches[i]
		matched := func() {}
		if n == len(todo)-1 {
			matched = func() { w.matched(s) }
		}
		var err error
		if e.patch, err = c.diff(ctx, s, old, new, c.limit, matched, func(done, all int64) {
			w.tell(int64(n)*max(all, 1)+done, int64(len(todo))*max(all, 1))
		}); err != nil {
			return err
		}
		e.known = true
		if err := c.keep(ctx, s, e.patch, old, new); err != nil {
			return err
		}
	}
	return nil
}

// keep proves a patch that was made and puts it, or that there is none, into the cache.
func (c *contest) keep(ctx context.Context, s strategy, patch, old, new []byte) error {
	if c.noVerify {
		return nil
	}
	if patch == nil {
		if c.cached {
			c.caches.put(ctx, c.patchKey(s), valueTooLong, c.limit, nil)
		}
		return nil
	}
	newSize := int64(len(new))
	c.memory.collect(min(peakMemory(c.recipe.Compression.Patches, Content{Kind: ContentPatch, Size: newSize}), 16*newSize))
	if err := c.verifyPatch(ctx, s, c.step.name, old, new, patch); err != nil {
		return err
	}
	if c.cached {
		c.caches.put(ctx, c.patchKey(s), valuePatch, int64(len(patch)), patch)
	}
	return nil
}

// decide takes the smallest patch, of equal ones the last: MBDIFF10, which more updaters apply.
func (c *contest) decide(res *decision) {
	res.cached = true
	for i, s := range c.strategies {
		e := &c.patches[i]
		candidate := Candidate{Strategy: s.name, Format: s.Format(), Size: int64(len(e.patch)), Why: c.choice[i]}
		if c.choice[i] == "" {
			res.cached = res.cached && e.cached
			switch {
			case e.patch == nil:
				candidate.Why = "no smaller than the whole file"
			case res.patch == nil || len(e.patch) <= len(res.patch):
				res.patch, res.format, res.strategy = e.patch, s.Format(), s.name
				res.verified = e.cached || !c.noVerify // what is kept was verified before
			}
		}
		res.candidates = append(res.candidates, candidate)
	}
	if len(c.strategies) == 1 {
		res.candidates = nil
	}
}

// choice looks a choice between n strategies up; nil where it is not there.
func (c *caches) choice(ctx context.Context, key PatchKey, n int) choice {
	if n == 1 {
		return make(choice, 1)
	}
	v, ok, err := c.patches.Get(ctx, key)
	if err == nil && ok {
		var kind byte
		var text []byte
		var list choice
		if kind, _, text, err = openValue(key, v); err == nil {
			err = json.Unmarshal(text, &list)
		}
		if err == nil && (kind != valueChoice || len(list) != n) {
			err = errors.New("cached choice is of something else")
		}
		if err == nil {
			return list
		}
	}
	if err != nil {
		c.count(false, err)
	}
	return nil
}

func (c *caches) putChoice(ctx context.Context, key PatchKey, list choice) {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // plain data
	}
	c.put(ctx, key, valueChoice, int64(len(text)), text)
}
