package senbonzakura

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// Requirement names something that must hold for an update before it is signed: one of those below, or one of the
// [Checks], which then must have been made. What was not checked, because the request left it out or because there was
// nothing to check it with, does not hold.
type Requirement string

// The requirements that are more than one of the [Checks].
const (
	// RequireProof: the update was applied to FROM and gave TO, and nothing was found on which clients fail.
	RequireProof Requirement = "proof"
	// RequireProduct: FROM and TO are of one product, and the update has a product block with a channel and a version
	// that is not beyond TO's own: that of its product block, else that of its application.ini.
	RequireProduct Requirement = "product"
	// RequireChannel: the MAR channel of the update is one of TO's, where TO names any; and where the request says
	// which channels TO may be for, that was checked.
	RequireChannel Requirement = "channel"
	// RequirePlatform: a complete shows by its executables which platform it is for; that the request says so is not
	// enough. It is none of the default ones.
	RequirePlatform Requirement = "platform"
)

// Requirements returns all that there are.
func Requirements() []Requirement {
	all := append(DefaultRequirements(), RequirePlatform)
	for _, c := range Checks() {
		if r := Requirement(c); !slices.Contains(all, r) && c != CheckVerify { // which is part of the proof
			all = append(all, r)
		}
	}
	return all
}

// DefaultRequirements are those that hold where Options.Require says nothing.
func DefaultRequirements() []Requirement {
	return []Requirement{RequireProof, RequireProduct, RequireChannel}
}

// checks are those of the Checks without which a requirement cannot hold.
func (r Requirement) checks() []Check {
	switch r {
	case RequireProof:
		return []Check{CheckVerify}
	case RequireProduct:
		return []Check{CheckProduct}
	case RequireChannel, RequirePlatform:
		return nil
	}
	return []Check{Check(r)}
}

// Needs says whether an update that was made without a check cannot meet the requirement.
func (r Requirement) Needs(c Check) bool {
	return slices.Contains(r.checks(), c) || r == RequireChannel && c == CheckChannels
}

// ErrRequirement says that an update may not be signed; the error is a [*RequirementError].
var ErrRequirement = errors.New("senbonzakura: may not be signed")

// RequirementError says which requirement does not hold for an update that was to be signed. It matches
// [ErrRequirement].
type RequirementError struct {
	Requirement Requirement // which one does not hold
	// Field is that of the request that stands in the way, as in "ProductVersion"; "" where there is none.
	Field  string
	Reason string // for people
}

func (e *RequirementError) Error() string {
	return fmt.Sprintf("not signed: requirement %q: %s", string(e.Requirement), e.Reason)
}

// Is makes errors.Is find [ErrRequirement].
func (e *RequirementError) Is(target error) bool { return target == ErrRequirement }

// candidate is an update that is to be signed.
type candidate struct {
	request *Request
	to      *side
	p       *Provenance
	product *mar.Product
}

// early are the checks that are made before the work begins.
var early = []Check{CheckSignatures, CheckChannels, CheckProduct, CheckDowngrade, CheckWatershed}

// meets says which requirement does not hold. What only the finished update tells is looked at where it has a report.
func (c *candidate) meets(requirements []Requirement) error {
	for _, r := range requirements {
		if err := c.meet(r); err != nil {
			return err
		}
	}
	return nil
}

func (c *candidate) meet(r Requirement) error {
	fails := func(field, format string, args ...any) error {
		return &RequirementError{r, field, fmt.Sprintf(format, args...)}
	}
	for _, check := range r.checks() {
		switch {
		case c.request.skips(check):
			return fails("Skip", "the check %q was left out", string(check))
		case c.p.Report == nil && !slices.Contains(early, check): // it comes later
		case !slices.Contains(c.p.Checked, check):
			return fails("", "there was nothing to make the check %q with", string(check))
		}
	}
	switch r {
	case RequireProof:
		if report := c.p.Report; report != nil && (!report.Verified || report.Failure != "") {
			return fails("", "the update was not proved%s", strings.TrimSuffix(": "+report.Failure, ": "))
		}
	case RequireProduct:
		return c.meetProduct(fails)
	case RequireChannel:
		return c.meetChannel(fails)
	case RequirePlatform:
		for _, b := range []*toolchain.Build{&c.p.From.Build, &c.p.To.Build} {
			if b.Client != nil && b.Client.Platform != "" {
				return nil
			}
		}
		return fails("Platform", "no complete shows by its executables which platform it is for")
	}
	return nil
}

func (c *candidate) meetProduct(fails func(field, format string, args ...any) error) error {
	if c.product == nil || c.product.Channel == "" || c.product.Version == "" {
		return fails("", "the update has no product block with channel and version: TO has none, and the request gives none")
	}
	if !versionLike(c.product.Version) { // whatever that is, Gecko has a place for it in its order
		return fails("ProductVersion", "%q is no version", c.product.Version)
	}
	own, _ := c.to.reader.Product()
	most := cmp.Or(own.Version, c.to.input.Build.Version)
	if most == "" {
		return fails("ProductVersion", "TO does not say its version, so nothing says that it is %q", c.product.Version)
	}
	if version.Compare(c.product.Version, most) > 0 {
		return fails("ProductVersion", "version %q is beyond TO's own, %q", c.product.Version, most)
	}
	return nil
}

// versionLike says whether a text could be the version of a product: digits, and what follows them.
func versionLike(v string) bool {
	return v != "" && v[0] >= '0' && v[0] <= '9' && !strings.ContainsFunc(v, func(r rune) bool {
		return !strings.ContainsRune("0123456789.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-_*", r)
	})
}

func (c *candidate) meetChannel(fails func(field, format string, args ...any) error) error {
	if len(c.request.Channels) > 0 && !slices.Contains(c.p.Checked, CheckChannels) {
		return fails("Skip", "the check %q was left out", string(CheckChannels))
	}
	if c.product == nil {
		return nil
	}
	known := c.to.input.Build.Channels
	for channel := range strings.SplitSeq(c.product.Channel, ",") {
		if channel = strings.TrimSpace(channel); len(known) > 0 && !slices.Contains(known, channel) {
			return fails("Channel", "MAR channel %q is none of TO's, %q", channel, known)
		}
	}
	return nil
}
