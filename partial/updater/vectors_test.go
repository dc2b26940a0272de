package updater

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
)

type vectorTree struct {
	Files map[string]struct {
		Data string `json:"data"`
		Exec bool   `json:"exec"`
	} `json:"files"`
	Dirs []string `json:"dirs"`
}

func (v vectorTree) tree(tb testing.TB) updatetest.Tree {
	tb.Helper()
	t := updatetest.Tree{}
	for n, f := range v.Files {
		data, err := base64.StdEncoding.DecodeString(f.Data)
		if err != nil {
			tb.Fatal(err)
		}
		t[n] = updatetest.File(string(data))
		if f.Exec {
			t[n] = updatetest.Program(string(data))
		}
	}
	for _, d := range v.Dirs {
		t[d+"/"] = ""
	}
	return t
}

// What Mozilla's updater did with 600 made-up updates, and what ours does: the same tree and the same error number. The
// kinds in which they differ on purpose are counted: where the updater crashes, ours refuses, and after a failure ours leaves
// the tree as it was.
func TestVectors(t *testing.T) {
	t.Parallel()
	f, err := os.Open(testkit.Shared(t, "testdata", "updater-vectors", "manifests.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counts := make(map[string]int)
	decoder := json.NewDecoder(f)
	for {
		var v struct {
			Case          int
			Before, After vectorTree
			MAR           []byte
			Status        string
		}
		if err := decoder.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		counts["all"]++
		before, after := v.Before.tree(t), v.After.tree(t)
		dir := testkit.MemoryDir(t)
		before.Write(t, dir)
		said := "succeeded"
		r, err := loosely(v.MAR)
		if err == nil {
			err = Apply(t.Context(), updatetest.OpenRoot(t, dir), r, nil)
		}
		var ue *UpdateError
		switch {
		case errors.As(err, &ue) && ue.Code == CodeCrash:
			said = "applying"
			counts["updater crashes, ours refuses"]++
		case errors.As(err, &ue):
			said = fmt.Sprintf("failed: %d", ue.Code)
		case err != nil:
			said = "" // not an update's error
		}
		if said != v.Status {
			t.Errorf("case %d: the updater says %q, ours %v", v.Case, v.Status, err)
		}
		want := after
		if v.Status != "succeeded" {
			want = before
			if v.Status != "applying" && updatetest.DiffSnapshots(after, before) != "" {
				counts["updater fails and leaves something behind, ours does not"]++
			}
		}
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), want); diff != "" {
			t.Errorf("case %d (%s):\n%s", v.Case, v.Status, diff)
		}
	}
	want := map[string]int{"all": 600, "updater crashes, ours refuses": 12, "updater fails and leaves something behind, ours does not": 11}
	if !maps.Equal(counts, want) {
		t.Errorf("got %v, want %v", counts, want)
	}
}

// loosely reads an archive with names that only the updater takes, where it has such.
func loosely(data []byte) (*mar.Reader, error) {
	r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		return mar.NewReader(bytes.NewReader(data), int64(len(data)), &mar.ReaderOptions{Allow: []mar.Code{mar.CodeName, mar.CodeDuplicate, mar.CodeConflict}})
	}
	return r, nil
}
