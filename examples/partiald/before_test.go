package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// unpackData unpacks a data directory.
func unpackData(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(name, 0o700)
		} else {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(name, data, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The data directories are of versions with other keys of updates: in each one job is done, and one is queued, which in the
// first is for a platform in words that nobody knows. The first job's pages, download and provenance stay readable, the other
// one is finished under the ID that its asker knows.
func TestDataOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	for _, before := range []dataBefore{
		{
			"before.tar.gz", "1.1", // before keys had a number
			"b9b7f505920f7021a6dec5cda53ad92744cd937607ccc8ab1622aec11277c0e5",
			"ad12cabe6dbbd11b8637245596644c955b72fc62fb8344d654cde984ea19cc71",
			"77ac6820457e915a63ba0c0837687b7c460ba5aac0f51e1353ded0e9e36d8b8cea9c2fe9855aefcbf94234067e3ee2338e15ce13bf05f592552a57fe1d45d9e5",
		},
		{
			"keys2.tar.gz", "151.0", // before patches of several formats
			"ceb0a351eeade882ba965e5c8d7b702fadbfd909c8b59bff6f1833b6e89d8087",
			"ae086e246f4658185857018cd3a6c74bb7d1ef964971c664b68a184b307bfe3f",
			"85cc0c5684bc6f833c0c95c5f306914b59c6fc565dbb4950ecda3ec066394b1bbb55705aeb9275d605c871fbd9a7a02ca212998204adfce3c0807d7051758ec5",
		},
	} {
		t.Run(before.archive, func(t *testing.T) {
			t.Parallel()
			before.goesOn(t)
		})
	}
}

// dataBefore is a data directory in testdata: to which version both jobs lead, their IDs, and the SHA-512 of what is done.
type dataBefore struct{ archive, version, done, queued, sum string }

func (d dataBefore) goesOn(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	unpackData(t, filepath.Join("testdata", d.archive), dir)
	n := newNode(t, "PARTIALD_DATA="+filepath.Join(dir, "data"))
	n.start()
	n.finish(d.queued, time.Minute)
	for _, id := range []string{d.done, d.queued} {
		st, err := n.status(id)
		if err != nil || st.State != job.Done || st.Result == nil {
			t.Fatalf("job %s is %s: %v, %v", id, st.State, st.Error, err)
		}
		data := n.get("/api/v1/partials/" + id)
		if got := sha512.Sum512(data); hex.EncodeToString(got[:]) != st.Result.SHA512 || id == d.done && st.Result.SHA512 != d.sum {
			t.Errorf("job %s: the download has SHA-512 %x, the result says %s", id, got, st.Result.SHA512)
		}
		var p senbonzakura.Provenance
		if err := json.Unmarshal(n.get("/api/v1/partials/"+id+"/provenance"), &p); err != nil {
			t.Fatal(err)
		}
		if p.Output.SHA512 != st.Result.SHA512 || p.Report == nil || !p.Report.Verified {
			t.Errorf("job %s: provenance of %s, report %+v", id, p.Output.SHA512, p.Report)
		}
		if page := n.get("/jobs/" + id); !strings.Contains(string(page), d.version) {
			t.Errorf("job %s: its page does not name the version", id)
		}
	}
	// The same asked for again is another job: nothing that was proved by the version before is handed out as proved now.
	st, err := n.status(d.done)
	if err != nil {
		t.Fatal(err)
	}
	if again := n.accept(st.Spec); again.ID == d.done {
		t.Errorf("the same request has the ID of the version before, %s", again.ID)
	}
	if res, _, err := n.request(http.MethodGet, "/", nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("front page: %v, %v", res, err)
	}
}
