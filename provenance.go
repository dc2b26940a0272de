package senbonzakura

import (
	"encoding/hex"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// Provenance says where an update comes from: what went in, how it was made, what was checked, and what came out. It
// is stored beside the update and is the same, but for the times in the report, whenever the update is made again.
type Provenance struct {
	From Input `json:"from"` // the complete update of the old version
	To   Input `json:"to"`   // that of the new one
	// Recipe is the ID of the recipe: it names every program and setting that decides about the bytes, external
	// tools with the digest of the program.
	Recipe string `json:"recipe"`
	// Reasons say why the recipe was selected.
	Reasons []string `json:"reasons,omitempty"`
	// Checked and Skipped are the checks that were made, and hold, and those that were switched off by the request. A
	// check that could not be made, for example since no keys are given, stands in neither.
	Checked []Check `json:"checked"`
	Skipped []Check `json:"skipped,omitempty"`
	// Checks say of each check what it came to, and why it could not be made. FROM's updater, for which they are made,
	// stands in the report.
	Checks updater.Verdicts `json:"checks,omitempty"`
	// Required are the requirements that held when it was signed; none where it is not signed.
	Required []Requirement `json:"required,omitempty"`
	Output   Output        `json:"output"` // what came out
	// Report has the decision about every file and the result of the proof.
	Report *partial.Report `json:"report"`
	// Labels are those of the request.
	Labels map[string]string `json:"labels,omitempty"`
	// Locale is that of the request.
	Locale string `json:"locale,omitempty"`
}

// Input is one complete update that went in.
type Input struct {
	// URL is that of the source's which gave the bytes, without credentials, as far as this process knows; else the first
	// of them; a file's name for a local file.
	URL    string `json:"url,omitempty"`
	Size   int64  `json:"size"`   // bytes
	SHA512 string `json:"sha512"` // in hexadecimal, as all hashes here
	// SHA256 is there where the request gives it.
	SHA256 string `json:"sha256,omitempty"`
	// Weak says that the only hash that was asked for is SHA-1.
	Weak bool `json:"weak,omitempty"`
	// SignedBy is the fingerprint (SHA-256 of the public key) of the key that its signature was verified with.
	SignedBy string          `json:"signed_by,omitempty"`
	Build    toolchain.Build `json:"build"` // what it says of itself, and the request of it
}

// Output is the update that was made.
type Output struct {
	Size    int64  `json:"size"`              // bytes, signatures included
	SHA512  string `json:"sha512"`            // in hexadecimal, signatures included
	SHA256  string `json:"sha256"`            // likewise
	Channel string `json:"channel,omitempty"` // of its product block
	Version string `json:"version,omitempty"` // of its product block
	// SignedBy are the fingerprints of the keys that signed it, in the order of the signatures.
	SignedBy []string `json:"signed_by,omitempty"`
}

// Submission has the fields that Mozilla's partial-update task writes into its manifest.json, an array with one object
// for each update, which existing submitters read. All values are strings but the sizes. The last five are copies of
// what the task was given and stand there only if it was; here they are labels, which are strings.
type Submission struct {
	Channel             string `json:"MAR_CHANNEL_ID"`                // MAR channel of the update
	Version             string `json:"version"`                       // of TO
	AppName             string `json:"appName"`                       // name of the application
	Repository          string `json:"repo"`                          // where TO's source is
	Revision            string `json:"revision"`                      // of TO's source
	Platform            string `json:"platform"`                      // label "platform", else that of TO
	Locale              string `json:"locale"`                        // label "locale", else that of the request
	FromMAR             string `json:"from_mar"`                      // address or file of FROM
	FromSize            int64  `json:"from_size"`                     // bytes
	FromHash            string `json:"from_hash"`                     // SHA-512 in hexadecimal, as all hashes here
	FromBuildID         string `json:"from_buildid"`                  // 14 digits
	ToMAR               string `json:"to_mar"`                        // address or file of TO
	ToSize              int64  `json:"to_size"`                       // bytes
	ToHash              string `json:"to_hash"`                       // of TO
	ToBuildID           string `json:"to_buildid"`                    // 14 digits
	MAR                 string `json:"mar"`                           // name of the update: label "mar"
	Branch              string `json:"branch"`                        // label "branch", else the last part of Repository
	Size                int64  `json:"size"`                          // bytes of the update
	Hash                string `json:"hash"`                          // of the update
	UpdateNumber        string `json:"update_number,omitempty"`       // label "update_number"
	PreviousVersion     string `json:"previousVersion,omitempty"`     // label of the JSON name, as those that follow
	PreviousBuildNumber string `json:"previousBuildNumber,omitempty"` // from 1
	ToVersion           string `json:"toVersion,omitempty"`           // as the release calls it
	ToBuildNumber       string `json:"toBuildNumber,omitempty"`       // from 1
}

// note adds what checks come to, in the place of what was said of them before.
func (p *Provenance) note(list ...updater.Verdict) {
	for _, v := range list {
		if at := slices.IndexFunc(p.Checks, func(have updater.Verdict) bool { return have.Check == v.Check }); at >= 0 {
			if p.Checks[at].Answer == updater.Holds && v.Answer == updater.NotChecked && !v.Warning {
				v = updater.Verdict{Check: v.Check, Answer: updater.Holds, Reason: "of the two completes; of the update: " + v.Reason}
			}
			p.Checks[at] = v
			continue
		}
		p.Checks = append(p.Checks, v)
	}
	order := Checks()
	slices.SortStableFunc(p.Checks, func(a, b updater.Verdict) int { return slices.Index(order, a.Check) - slices.Index(order, b.Check) })
	p.Checked = []Check{}
	for _, v := range p.Checks {
		if v.Answer == updater.Holds {
			p.Checked = append(p.Checked, v.Check)
		}
	}
}

// Submission returns the fields for Mozilla's submitters. Hashes are SHA-512 in hexadecimal, sizes are bytes. Labels give
// what completes do not say, such as "mar", the update's file name, and replace platform, locale and branch, which is
// else the last part of the source repository's address.
func (p *Provenance) Submission() Submission {
	label := func(name, otherwise string) string {
		if v, ok := p.Labels[name]; ok {
			return v
		}
		return otherwise
	}
	return Submission{
		Channel: p.Output.Channel, Version: p.Output.Version, AppName: p.From.Build.Product,
		Repository: p.To.Build.SourceRepository, Revision: p.To.Build.SourceStamp,
		Platform: label("platform", p.To.Build.Platform), Locale: label("locale", p.Locale),
		FromMAR: p.From.URL, FromSize: p.From.Size, FromHash: p.From.SHA512, FromBuildID: p.From.Build.BuildID,
		ToMAR: p.To.URL, ToSize: p.To.Size, ToHash: p.To.SHA512, ToBuildID: p.To.Build.BuildID,
		MAR: label("mar", ""), Branch: label("branch", branch(p.To.Build.SourceRepository)),
		Size: p.Output.Size, Hash: p.Output.SHA512,
		UpdateNumber: label("update_number", ""), PreviousVersion: label("previousVersion", ""),
		PreviousBuildNumber: label("previousBuildNumber", ""), ToVersion: label("toVersion", ""),
		ToBuildNumber: label("toBuildNumber", ""),
	}
}

// branch returns the last part of a repository's address.
func branch(repository string) string {
	if repository == "" {
		return ""
	}
	return path.Base(repository)
}

// redacted returns a URL without user, password, query and fragment, for what is stored or logged.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		before, _, _ := strings.Cut(raw, "?")
		return before
	}
	u.User, u.RawQuery, u.Fragment, u.ForceQuery = nil, "", "", false
	return u.String()
}

func hexOf(sum []byte) string { return hex.EncodeToString(sum) }
