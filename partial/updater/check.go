package updater

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A Check names something that is made sure of about an update. These names are the only ones: in the API and its
// documentation, in forms, in --skip, in provenance.
type Check string

// The checks, in the order in which they are made.
const (
	CheckSignatures Check = "signatures" // FROM and TO are signed by one of the keys that are given
	CheckChannels   Check = "channels"   // the MAR channels of TO are among those that are allowed
	CheckProduct    Check = "product"    // FROM and TO are of one product
	CheckDowngrade  Check = "downgrade"  // TO is not older than FROM, nor the update than the client (error 23)
	CheckWatershed  Check = "watershed"  // no release in between must be passed through
	// What the client refuses before or while it reads the update:
	CheckClientSignature Check = "client-signature" // one signature, by its key and algorithm (error 19)
	CheckProductBlock    Check = "product-block"    // the update has channel and version (error 21)
	CheckClientChannel   Check = "client-channel"   // the update's channel is one that it accepts (error 22)
	CheckSettings        Check = "settings"         // its update-settings.ini stays, now and with later updates (error 38)
	CheckMembers         Check = "members"          // it unpacks every member (error 39)
	CheckManifests       Check = "manifests"        // the manifest that it looks for is there (it crashes)
	CheckPatches         Check = "patches"          // it applies the formats of all patches (error 41)
	CheckVerify          Check = "verify"           // the update, applied to FROM, gives TO
)

// Checks returns all checks, in the order in which they are made.
func Checks() []Check {
	return []Check{
		CheckSignatures, CheckChannels, CheckProduct, CheckDowngrade, CheckWatershed, CheckClientSignature, CheckProductBlock,
		CheckClientChannel, CheckSettings, CheckMembers, CheckManifests, CheckPatches, CheckVerify,
	}
}

// An Answer is what a check comes to.
type Answer string

// The answers.
const (
	Holds      Answer = "holds"
	Fails      Answer = "fails"       // a refusal; Verdict.Code is the updater's number
	NotChecked Answer = "not checked" // Verdict.Reason says why
	Skipped    Answer = "skipped"     // the caller wants it left out
)

// A Verdict is what one check says about one update.
type Verdict struct {
	Check  Check  `json:"check"`  // which one
	Answer Answer `json:"answer"` // what it comes to
	// Reason says why it fails or was not checked.
	Reason string `json:"reason,omitempty"`
	// Code is the number with which the updater fails.
	Code Code `json:"code,omitempty"`
	// WayOut says what to do about it.
	WayOut string `json:"way_out,omitempty"`
	// Warning says that what was not checked would fail with Code for a client that verifies.
	Warning bool `json:"warning,omitempty"`
}

// String describes the verdict in one line.
func (v Verdict) String() string {
	s := string(v.Check) + ": " + string(v.Answer)
	if v.Reason != "" {
		s += ": " + v.Reason
	}
	if v.Code != 0 && v.Answer == Fails {
		s += fmt.Sprintf(" (the updater %s)", v.Code.reports())
	}
	if v.WayOut != "" {
		s += " (" + v.WayOut + ")"
	}
	return s
}

// reports says what the updater does, as the end of a sentence.
func (c Code) reports() string {
	if c == CodeCrash {
		return "crashes"
	}
	return fmt.Sprintf("reports %q", c)
}

// Verdicts are what the checks say about one update.
type Verdicts []Verdict

// Failed returns those that fail.
func (l Verdicts) Failed() Verdicts {
	return slices.DeleteFunc(slices.Clone(l), func(v Verdict) bool { return v.Answer != Fails })
}

// Warnings returns those that would fail for a client that verifies.
func (l Verdicts) Warnings() Verdicts {
	return slices.DeleteFunc(slices.Clone(l), func(v Verdict) bool { return !v.Warning })
}

// Skip marks the checks that are named as skipped, whatever they said.
func (l Verdicts) Skip(checks ...Check) Verdicts {
	out := slices.Clone(l)
	for i, v := range out {
		if slices.Contains(checks, v.Check) {
			out[i] = Verdict{Check: v.Check, Answer: Skipped, Reason: v.Reason}
		}
	}
	return out
}

// Err returns nil, or a [*ClientError] with those that fail.
func (l Verdicts) Err() error {
	if failed := l.Failed(); len(failed) > 0 {
		return &ClientError{Verdicts: failed}
	}
	return nil
}

// ErrClient matches every [*ClientError] with errors.Is.
var ErrClient = errors.New("the installed updater refuses it")

// A ClientError says why the client does not take an update.
type ClientError struct {
	Verdicts Verdicts // those that fail
}

// Error lists all reasons.
func (e *ClientError) Error() string {
	texts := make([]string, len(e.Verdicts))
	for i, v := range e.Verdicts {
		texts[i] = v.String()
	}
	return ErrClient.Error() + ": " + strings.Join(texts, "; ")
}

// Is makes errors.Is(err, ErrClient) true.
func (e *ClientError) Is(target error) bool { return target == ErrClient }

// An Offer is what a client sees of an update before it reads the manifest.
type Offer struct {
	// Product is the update's product block, nil for none.
	Product *mar.Product
	// Signatures are the algorithms of its signatures; none means that it is not signed, or not yet.
	Signatures []mar.Algorithm
	// Verify says whether its signature is by the client's key; nil means that no key is known.
	Verify func() error
}

// Check says what the client makes of an offer: signature, product block, channel and version. These hold together, as
// a switch of the client's build. Where it is not known whether it verifies, another channel or version is not checked
// and a warning. The signature of an update that has none is never a failure, since signing comes last.
func (c *Client) Check(o Offer) Verdicts {
	return Verdicts{c.checkSignature(o), c.checkProduct(o), c.checkChannel(o), c.checkVersion(o)}
}

// refuse makes a verdict for what a client that verifies refuses.
func (c *Client) refuse(check Check, code Code, reason, wayOut string) Verdict {
	if c.Verifies.Known && !c.Verifies.Value {
		return Verdict{Check: check, Answer: Holds, Reason: "this client does not verify"}
	}
	return Verdict{Check: check, Answer: Fails, Code: code, Reason: reason, WayOut: wayOut}
}

// mismatch is refuse for what only says that the update is for others: where it is not known whether the client
// verifies, it is a warning.
func (c *Client) mismatch(check Check, code Code, reason, wayOut string) Verdict {
	v := c.refuse(check, code, reason, wayOut)
	if v.Answer == Fails && !c.Verifies.Known {
		v.Answer, v.Warning = NotChecked, true
		v.Reason += fmt.Sprintf("; whether this client verifies is not known: one that does %s", code.reports())
	}
	return v
}

// RefuseSettings makes the verdict for an update that takes away, now or with the next complete update, the file
// without which a client that verifies takes no update any more.
func (c *Client) RefuseSettings(reason, wayOut string) Verdict {
	return c.refuse(CheckSettings, CodeSettings, reason, wayOut)
}

// keepsSettings says whether the client's own settings outlive what a plan does.
func (c *Client) keepsSettings(p *Plan) Verdict {
	name := c.Settings.Value
	if name == "" {
		return c.unchecked(CheckSettings, "FROM has no "+SettingsFile)
	}
	if change := p.Changes[name]; change != nil && change.Blob == nil {
		return c.RefuseSettings(fmt.Sprintf("%s removes it", change.By), "leave the file where it is")
	}
	return Verdict{Check: CheckSettings, Answer: Holds}
}

func (c *Client) unchecked(check Check, reason string) Verdict {
	return Verdict{Check: check, Answer: NotChecked, Reason: reason}
}

func (c *Client) checkSignature(o Offer) Verdict {
	const check = CheckClientSignature
	if c.Verifies.Known && !c.Verifies.Value {
		return Verdict{Check: check, Answer: Holds, Reason: "this client does not verify"}
	}
	want := c.Signature.Value
	switch n := len(o.Signatures); {
	case n == 0:
		return c.unchecked(check, fmt.Sprintf("the update is not signed: sign it with %s", want))
	case n > 1:
		return c.refuse(check, CodeSignature, fmt.Sprintf("the update has %d signatures, the client accepts exactly one", n), "sign it once")
	case o.Signatures[0] != want && !c.Signature.Known:
		return c.unchecked(check, "which algorithm the client verifies is not known")
	case o.Signatures[0] != want:
		return c.refuse(check, CodeSignature, fmt.Sprintf("the update is signed with %s, the client verifies %s", o.Signatures[0], want),
			fmt.Sprintf("sign it with %s", want))
	case o.Verify == nil:
		return c.unchecked(check, "no key of the client is given")
	}
	if err := o.Verify(); err != nil {
		return c.refuse(check, CodeSignature, "the signature is not by the client's key: "+err.Error(), "sign it with the key that is built into FROM")
	}
	return Verdict{Check: check, Answer: Holds}
}

func (c *Client) checkProduct(o Offer) Verdict {
	if o.Product == nil {
		return c.refuse(CheckProductBlock, CodeNoProduct, "the update has no channel and version", "give it a product block")
	}
	return Verdict{Check: CheckProductBlock, Answer: Holds}
}

func (c *Client) checkChannel(o Offer) Verdict {
	const check = CheckClientChannel
	if o.Product == nil {
		return c.unchecked(check, "the update has no product block")
	}
	takes, known := c.Accepts(o.Product.Channel)
	switch {
	case !known && !listable(o.Product.Channel):
		v := c.refuse(check, CodeChannel, fmt.Sprintf("the update is for channel %q, which no client with a list of channels accepts: they compare it whole, and their lists have no commas, blanks and empty names",
			o.Product.Channel), "make it for one channel, with --channel")
		if v.Answer == Fails { // a client without a list takes it
			v.Answer, v.Warning = NotChecked, true
		}
		return v
	case !known:
		return c.unchecked(check, "which channels the client accepts is not known: "+c.Channels.Note)
	case takes:
		return Verdict{Check: check, Answer: Holds}
	}
	return c.mismatch(check, CodeChannel, fmt.Sprintf("the update is for channel %q, the client accepts %q", o.Product.Channel, c.Channels.Value),
		"make it for a channel that FROM accepts, with --channel")
}

func (c *Client) checkVersion(o Offer) Verdict {
	const check = CheckDowngrade
	switch {
	case o.Product == nil:
		return c.unchecked(check, "the update has no product block")
	case !c.Version.Known:
		return c.unchecked(check, "the client's own version is not known")
	case version.Compare(c.Version.Value, o.Product.Version) > 0:
		return c.mismatch(check, CodeDowngrade, fmt.Sprintf("the update has version %s, the client is %s and does not go back", o.Product.Version, c.Version.Value),
			"give it the version of TO, or one that is not older than FROM's")
	}
	return Verdict{Check: check, Answer: Holds}
}

// OfferOf is what an update shows of itself; whether a key of the client has signed it, nobody looks then.
func OfferOf(r *mar.Reader) Offer {
	o := Offer{}
	if p, ok := r.Product(); ok {
		o.Product = &p
	}
	for _, s := range r.Signatures() {
		o.Signatures = append(o.Signatures, s.Algorithm)
	}
	return o
}

// CheckMAR is [Client.Check] for an update that is there. keys are those built into the client, of which one must have
// signed; none means that they are not known. The error is that of reading.
func (c *Client) CheckMAR(ctx context.Context, r *mar.Reader, keys ...crypto.PublicKey) (Verdicts, error) {
	o := OfferOf(r)
	var failed error
	if len(keys) > 0 {
		o.Verify = func() error {
			_, err := r.VerifyAny(ctx, keys...)
			if err != nil && !errors.Is(err, mar.ErrSignature) {
				failed = err
			}
			return err
		}
	}
	list := c.Check(o)
	return list, failed
}
