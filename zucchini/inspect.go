package zucchini

import "context"

// Info is what a patch consists of.
type Info struct {
	Header
	// Size is the size of the patch in bytes.
	Size int64 `json:"size"`
	// Parts are its elements, in the order of the new file.
	Parts []Part `json:"parts"`
}

// Part describes an element of a patch: how a part of the new file is made from a part of the old one.
type Part struct {
	// Type is what the element is about: "NoOp" for bytes, or a kind of executables: "Px86" and "Px64" for Windows, "Ex86",
	// "Ex64", "EA32" and "EA64" for ELF on x86, x86-64, ARM and AArch64.
	Type string `json:"type"`
	// OldOffset, OldSize, NewOffset and NewSize are the parts, in bytes.
	OldOffset int64 `json:"old_offset"`
	OldSize   int64 `json:"old_size"`
	NewOffset int64 `json:"new_offset"`
	NewSize   int64 `json:"new_size"`
	// Equivalences is the number of stretches copied from the old file, Copied how many bytes they have together. Extra is
	// how many bytes come from the patch.
	Equivalences int64 `json:"equivalences"`
	Copied       int64 `json:"copied"`
	Extra        int64 `json:"extra"`
	// Differences is the number of copied bytes that are changed.
	Differences int64 `json:"differences"`
	// References is the number of references that are put right; Corrected are those of them that lead somewhere else than
	// the equivalences say.
	References int64 `json:"references"`
	Corrected  int64 `json:"corrected"`
	// Targets are, for relocations, pointers and code, the numbers of places that references lead to and that no old one says.
	Targets [3]int64 `json:"targets"`
	// PatchSize is how many bytes of the patch the element has.
	PatchSize int64 `json:"patch_size"`
	// Loose is whether a list ends with a number that only the updater takes for its end, or holds what belongs to nothing;
	// see [ErrLoose] and [ErrElement].
	Loose bool `json:"loose"`
}

// InspectOptions for [Inspect].
type InspectOptions struct {
	// Limits bound what the patch may ask for.
	Limits Limits
}

// Inspect reads a whole patch and tells what it consists of. It needs no old file. A patch that is malformed is an
// error, of type *[PatchError]; one that is not, but cannot be applied, is described. opts may be nil.
func Inspect(ctx context.Context, patch []byte, opts *InspectOptions) (*Info, error) {
	var o InspectOptions
	if opts != nil {
		o = *opts
	}
	h, elements, err := parse(patch, o.Limits)
	if err != nil {
		return nil, err
	}
	info := &Info{Header: h, Size: int64(len(patch))}
	for _, e := range elements {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		info.Parts = append(info.Parts, e.describe())
	}
	return info, nil
}

func (e *element) describe() Part {
	p := Part{
		Type: e.name(), OldOffset: int64(e.oldAt), OldSize: int64(e.oldN), NewOffset: int64(e.newAt), NewSize: int64(e.newN),
		Equivalences: int64(len(e.pairs)), Extra: int64(len(e.stream[extraData])), PatchSize: int64(e.size), Loose: e.left || e.loose,
	}
	for _, q := range e.pairs {
		p.Copied += int64(q.size)
	}
	skips := e.stream[rawDeltaSkip]
	for _, diff := range e.stream[rawDeltaDiff] {
		if _, ok := uvarint(&skips); !ok || diff == 0 {
			p.Loose = true
			break
		}
		p.Differences++
	}
	p.Loose = p.Loose || len(skips) > 0
	deltas := e.stream[referenceDelta]
	for len(deltas) > 0 {
		d, ok := varint(&deltas)
		if !ok {
			p.Loose = true
			break
		}
		p.References++
		if d != 0 {
			p.Corrected++
		}
	}
	for pool := range uint8(len(p.Targets)) {
		targets, err := e.extra(pool, false)
		p.Targets[pool] = int64(len(targets))
		p.Loose = p.Loose || err != nil
	}
	return p
}
