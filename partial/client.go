package partial

import (
	"errors"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// What FROM's updater makes of an update: the one model that Build, Prove, Pack and Lint ask is updater.Client.

// clientOf returns the client that is given, or the one that FROM's complete update shows.
func clientOf(given *updater.Client, from *release) (*updater.Client, error) {
	if given != nil {
		return given, nil
	}
	c, err := updater.ClientOf(from.mar, updater.Claims{})
	if err != nil && !errors.Is(err, updater.ErrContradiction) {
		return nil, &InputError{from.what, err}
	}
	return c, err
}

// verdictFindings turns what the client says into findings: a refusal is broken, and what would be one for a client that
// verifies a warning.
func verdictFindings(list updater.Verdicts) []Finding {
	var out []Finding
	for _, v := range list {
		f := Finding{Kind: KindClient, Check: v.Check, Severity: Broken, Message: v.Reason, WayOut: v.WayOut, Code: v.Code}
		switch {
		case v.Answer == updater.Fails:
		case v.Warning:
			f.Severity = Warning
		default:
			continue
		}
		if v.Check == updater.CheckProductBlock {
			f.Kind = KindProduct
		}
		if v.Check == updater.CheckDowngrade {
			f.Kind = KindDowngrade
		}
		out = append(out, f)
	}
	return out
}

// ProductFor works out the product block of an update into TO: what the recipe sets of it, the rest from TO; nil where
// neither says anything. A list of channels becomes the only one of them that the client accepts; where that leaves a
// choice the block is TO's, and the verdict refuses it.
func (r Recipe) ProductFor(to *mar.Reader, c *updater.Client) (*mar.Product, updater.Verdicts) {
	p, ok := to.Product()
	if r.Product == nil && !ok {
		return nil, nil
	}
	if r.Product != nil {
		if r.Product.Version != "" {
			p.Version = r.Product.Version
		}
		if r.Product.Channel != "" {
			p.Channel = r.Product.Channel
			return &p, nil
		}
	}
	one, err := c.ChannelFor(p.Channel)
	if err != nil {
		return &p, updater.Verdicts{{
			Check: updater.CheckClientChannel, Answer: updater.Fails, Code: updater.CodeChannel, Reason: err.Error(),
			WayOut: "set the channel of the update",
		}}
	}
	p.Channel = one
	return &p, nil
}
