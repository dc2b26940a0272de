package verify

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// Servers that mean harm, or are broken, cost one test and a bounded time: nothing passes, nothing hangs, nothing is taken for
// what it is not.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 1, 1)
	slowly := func(w http.ResponseWriter, req *http.Request, text string) {
		for _, c := range text {
			_, _ = fmt.Fprintf(w, "%c", c)
			w.(http.Flusher).Flush()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-req.Context().Done():
				return
			}
		}
	}
	endless := func(w http.ResponseWriter, front string) {
		_, err := io.WriteString(w, front)
		for line := strings.Repeat(" ", 1<<16); err == nil; {
			_, err = io.WriteString(w, line)
		}
	}
	offer := func(url, size, hash string) string {
		return `<updates><update buildID="` + toBuild + `" displayVersion="153.6.0esr" appVersion="153.6.0"><patch type="complete" URL="` + url + `" hashFunction="sha512" hashValue="` + hash + `" size="` + size + `"/></update></updates>`
	}
	offered := func(data []byte) (http.HandlerFunc, func(url string) string) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) },
			func(url string) string {
				return offer(url, fmt.Sprint(len(data)), fmt.Sprintf("%x", sha512.Sum512(data)))
			}
	}
	bomb := func() []byte {
		var packed bytes.Buffer
		zw, err := xz.NewWriter(&packed, &xz.WriterOptions{Level: xz.Fast})
		if err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 1<<20)
		for range 20 { // the manifest: more than any has
			_, _ = zw.Write(zeros)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		signer, err := mar.CryptoSigner(r.key, mar.RSAPKCS1SHA384)
		if err != nil {
			t.Fatal(err)
		}
		product, _ := r.to.Product()
		a := &mar.Archive{Product: &product, Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, packed.Bytes())}}
		if _, err := a.WriteSigned(t.Context(), &out, signer); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	bombMAR, bombOffer := offered(bomb())
	zeros := strings.Repeat("00", 64)
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter, req *http.Request, mar string)
		mar    http.HandlerFunc
		result Result
		code   Code
	}{
		{"an answer without an end", func(w http.ResponseWriter, _ *http.Request, _ string) { endless(w, "<updates>") }, nil, Fail, UpdateXMLUnavailable},
		{"an answer byte by byte", func(w http.ResponseWriter, req *http.Request, _ string) {
			slowly(w, req, strings.Repeat("<updates>", 1000))
		}, nil, Error, NetworkTrouble},
		{"a redirect to itself", func(w http.ResponseWriter, req *http.Request, _ string) {
			http.Redirect(w, req, req.URL.String(), http.StatusFound)
		}, nil, Error, NetworkTrouble},
		{"elements in elements", func(w http.ResponseWriter, _ *http.Request, _ string) {
			_, _ = io.WriteString(w, "<updates>"+strings.Repeat("<a>", 300_000))
		}, nil, Fail, UpdateXMLUnavailable},
		{"entities of entities", func(w http.ResponseWriter, _ *http.Request, _ string) {
			_, _ = io.WriteString(w, `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><updates><update buildID="&b;"/></updates>`)
		}, nil, Fail, UpdateXMLUnavailable},
		{"a size of all disks", func(w http.ResponseWriter, _ *http.Request, mar string) {
			_, _ = io.WriteString(w, offer(mar, "1152921504606846976", zeros))
		}, func(w http.ResponseWriter, _ *http.Request) { endless(w, "MAR1") }, Fail, WrongMetadata},
		{"a size beyond numbers", func(w http.ResponseWriter, _ *http.Request, mar string) {
			_, _ = io.WriteString(w, offer(mar, "99999999999999999999999", zeros))
		}, nil, Fail, UpdateXMLUnavailable},
		{
			"a MAR without an end", func(w http.ResponseWriter, _ *http.Request, mar string) {
				_, _ = io.WriteString(w, offer(mar, "1000", zeros))
			},
			func(w http.ResponseWriter, _ *http.Request) { endless(w, "MAR1") }, Fail, WrongSize,
		},
		{
			"a MAR that redirects to itself", func(w http.ResponseWriter, _ *http.Request, mar string) {
				_, _ = io.WriteString(w, offer(mar, "1000", zeros))
			},
			func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, req.URL.Path, http.StatusFound) }, Fail, RedirectLoop,
		},
		{
			"a MAR that unpacks to very much", func(w http.ResponseWriter, _ *http.Request, mar string) { _, _ = io.WriteString(w, bombOffer(mar)) },
			bombMAR, Fail, ApplyFailed,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			server := httptest.NewServer(mux)
			defer server.Close()
			mux.HandleFunc("/update/", func(w http.ResponseWriter, req *http.Request) { tt.answer(w, req, server.URL+"/x.mar") })
			if tt.mar != nil {
				mux.HandleFunc("/x.mar", tt.mar)
			}
			lines := r.config()
			lines[0].PatchTypes = []string{"complete"}
			o := r.options(t)
			o.AUSServer, o.patience = server.URL, 500*time.Millisecond
			report, err := Run(t.Context(), lines, o)
			if err != nil {
				t.Fatal(err)
			}
			if test := report.Tests[0]; test.Result != tt.result || len(test.Reasons) == 0 || test.Reasons[0].Code != tt.code {
				t.Errorf("%s %.500v, want %s %s", test.Result, test.Reasons, tt.result, tt.code)
			}
		})
	}
}

// Logs that mean harm are read in bounded memory, and nothing passes.
func TestHostileLog(t *testing.T) {
	t.Parallel()
	size := 8 << 20
	for name, line := range map[string]string{
		"one line":             "x",
		"plans":                "command: START\ncommand: cat x\ncommand: output:\n",
		"empty tasks":          "Using config file x\n",
		"failures of nothing":  "Mon Nov 30 21:12:02 UTC 2026:  FAILURE: nothing\n",
		"a long name":          "Using  https://h/update/3/F/" + strings.Repeat("1", 5000) + "/2/L/de/c/default/default/default/update.xml\n",
		"colours":              "\x1b[\x1b[\x1b[1;31m",
		"evidence":             "TEST-UNEXPECTED-FAIL: " + strings.Repeat("y", 100) + "\n",
		"differences":          "Difference found in a\n",
		"brackets without end": "[task 2026-11-30T21:41:16.489Z] [task 2026-11-30T21:41:16.489Z] [x y z] ",
	} {
		front := "Using config file x\nUsing  https://h/update/3/F/1/2/L/de/c/default/default/default/update.xml\n"
		if strings.Contains(line, "FAILURE") {
			front = "Mon Nov 30 21:12:02 UTC 2026:  Command called: x\n"
		}
		text := io.MultiReader(strings.NewReader(front), io.LimitReader(&again{text: line}, int64(size)))
		report, err := Read(t.Context(), []Log{{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(text), nil }}}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if report.Passed(false) {
			t.Errorf("%s: passes", name)
		}
		var out bytes.Buffer
		if err := report.WriteJSON(&out); err != nil || out.Len() > 1<<20 {
			t.Errorf("%s: the report has %d bytes, %v", name, out.Len(), err)
		}
	}
}

// What cannot be read keeps the report from passing and hides nothing; where nothing can be read, that is the error.
func TestUnreadableLog(t *testing.T) {
	t.Parallel()
	good := sampleNamed(t, "01-all-pass").text
	broken := errors.New("the disk is broken")
	logs := map[string]func() (io.ReadCloser, error){
		"gone": func() (io.ReadCloser, error) { return os.Open(filepath.Join(t.TempDir(), "nosuch")) },
		"broken": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(good[:len(good)/2]), iotest.ErrReader(broken))), nil
		},
		"badly packed": func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("\x1f\x8bnot gzip")), nil },
	}
	for name, open := range logs {
		report, err := Read(t.Context(), []Log{{name, open}, memoryLog("good", good)}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if totals := report.Totals(); totals.Pass < 4 || report.Passed(false) || report.Complete {
			t.Errorf("%s: %+v, complete %v", name, totals, report.Complete)
		}
		if f := report.Files[0]; f.Name != name || f.Complete || f.Trouble == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if _, err := Read(t.Context(), []Log{{"gone", logs["gone"]}}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a log that is gone, alone: %v", err)
	}
}

// again is a text over and over.
type again struct {
	text string
	at   int
}

func (a *again) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], a.text[a.at:])
		n += k
		a.at = (a.at + k) % len(a.text)
	}
	return n, nil
}
