package verify

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
)

// DefaultRequest is the form of update requests that Mozilla's scripts make.
const DefaultRequest = "/update/3/%PRODUCT%/%VERSION%/%BUILD_ID%/%BUILD_TARGET%/%LOCALE%/%CHANNEL%/%OS_VERSION%/%DISTRIBUTION%/%DISTRIBUTION_VERSION%/update.xml?force=1"

// requestURL fills a form of update requests, in the words of the client's own app.update.url. What the plan does not say
// is "default". force=1, which asks as if no update were held back, is added where the form has no query.
func requestURL(server, form string, t *Test) string {
	if form == "" {
		form = DefaultRequest
	}
	values := []string{
		"%PRODUCT%", url.PathEscape(t.Product), "%VERSION%", url.PathEscape(t.Release), "%BUILD_ID%", url.PathEscape(t.BuildID),
		"%BUILD_TARGET%", url.PathEscape(t.Platform), "%LOCALE%", url.PathEscape(t.Locale), "%CHANNEL%", url.PathEscape(t.Channel),
	}
	path := strings.NewReplacer(values...).Replace(form)
	path = otherToken.ReplaceAllString(path, "default")
	if !strings.Contains(path, "?") {
		path += "?force=1"
	}
	return strings.TrimSuffix(server, "/") + path
}

// otherToken is whatever else a form asks for.
var otherToken = regexp.MustCompile(`%[A-Z_]+%`)

// errNoXML says that an answer of an update server is none.
var errNoXML = errors.New("not an update.xml")

// offer is one answer of the update server.
type offer struct {
	AppVersion     string
	DisplayVersion string
	BuildID        string
	Patches        []offeredPatch
}

type offeredPatch struct {
	Type, URL, HashFunction, HashValue string
	Size                               int64
}

// maxAnswer is how long an answer may be; real ones have about a kilobyte.
const maxAnswer = 1 << 20

// parseOffer reads update.xml. ok is false where it offers nothing.
func parseOffer(text []byte) (o offer, ok bool, err error) {
	var doc struct {
		XMLName xml.Name `xml:"updates"`
		Updates []struct {
			AppVersion       string `xml:"appVersion,attr"`
			DisplayVersion   string `xml:"displayVersion,attr"`
			Version          string `xml:"version,attr"`
			ExtensionVersion string `xml:"extensionVersion,attr"`
			BuildID          string `xml:"buildID,attr"`
			Patches          []struct {
				Type         string `xml:"type,attr"`
				URL          string `xml:"URL,attr"`
				HashFunction string `xml:"hashFunction,attr"`
				HashValue    string `xml:"hashValue,attr"`
				Size         int64  `xml:"size,attr"`
			} `xml:"patch"`
		} `xml:"update"`
	}
	if len(text) > maxAnswer {
		return offer{}, false, fmt.Errorf("%w: more than %d bytes", errNoXML, maxAnswer)
	}
	dec := xml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); err != nil {
		return offer{}, false, fmt.Errorf("%w: %w", errNoXML, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		for {
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if _, start := token.(xml.StartElement); start || err != nil {
				return offer{}, false, fmt.Errorf("%w: something follows <updates>", errNoXML)
			}
		}
	}
	if len(doc.Updates) == 0 {
		return offer{}, false, nil
	}
	u := doc.Updates[0] // the client takes the first that it can use; a server that offers several is not met
	o = offer{AppVersion: u.AppVersion, DisplayVersion: u.DisplayVersion, BuildID: u.BuildID}
	if o.AppVersion == "" {
		o.AppVersion = u.ExtensionVersion
	}
	if o.DisplayVersion == "" {
		o.DisplayVersion = u.Version
	}
	for _, p := range u.Patches {
		o.Patches = append(o.Patches, offeredPatch(p))
	}
	return o, true, nil
}

// patch finds the patch of a type.
func (o *offer) patch(patchType string) (offeredPatch, bool) {
	for _, p := range o.Patches {
		if p.Type == patchType {
			return p, true
		}
	}
	return offeredPatch{}, false
}
