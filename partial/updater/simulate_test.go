package updater

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
)

// anyItem finds every item.
func anyItem(string) (Item, bool) { return Item{Size: 1, Mode: 0o644}, true }

func drafting(value, known bool) *Client {
	return &Client{Drafts: Fact[bool]{Value: value, Known: known}}
}

// What newer updaters, which write all files before they move any, would make something else of, is refused for them and
// for a client of which it is not known; older ones go on as they did.
func TestSimulateDrafts(t *testing.T) {
	t.Parallel()
	file := updatetest.File
	dir := testkit.MemoryDir(t)
	updatetest.Tree{"a": file("a"), "b": file("b"), "b.moz-draft": file("x"), "d/f": file("f"), "n": file("n"), "m": file("m"), "m.moz-backup": file("x")}.Write(t, dir)
	tree := diskTree{rootFS{updatetest.OpenRoot(t, dir)}}
	for _, tt := range []struct {
		name, manifest string
		older, newer   bool
	}{
		{"one instruction for each file", "patch \"p\" \"a\"\nadd \"c\"\nremove \"d/f\"\n", true, true},
		{"two patches of one file", "patch \"p\" \"a\"\npatch \"q\" \"a\"\n", true, false},
		{"and by another spelling", "patch \"p\" \"a\"\npatch \"q\" \"./a\"\n", true, false},
		{"a patch of what is added", "add \"c\"\npatch \"p\" \"c\"\n", true, false},
		{"the second one is skipped", "patch \"p\" \"a\"\npatch-if \"none\" \"q\" \"a\"\n", true, true},
		{"removed and added", "remove \"a\"\nadd \"a\"\n", true, true},
		{"a file becomes a directory", "remove \"n\"\nadd \"n/o\"\n", true, false},
		{"the name of a draft in the update", "add \"c\"\nadd \"c.moz-draft\"\n", true, false},
		{"the name of a draft in the tree", "patch \"p\" \"b\"\n", true, false},
		{"removing needs no draft", "remove \"b\"\n", true, true},
		{"the name of a backup in the update", "patch \"p\" \"a\"\nadd \"a.moz-backup\"\n", false, false},
		{"the name of a backup alone", "add \"c.moz-backup\"\n", true, true},
	} {
		m, err := ParseManifest([]byte(tt.manifest))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name   string
			client *Client
			ok     bool
		}{
			{"no client", nil, tt.older},
			{"an older client", drafting(false, true), tt.older},
			{"a newer client", drafting(true, true), tt.newer},
			{"an unknown client", drafting(false, false), tt.newer},
		} {
			_, err := Simulate(m, tree, anyItem, c.client)
			var ue *UpdateError
			if c.ok && err != nil || !c.ok && (!errors.As(err, &ue) || ue.Code != 0 || ue.Line == 0) {
				t.Errorf("%s, %s: got %v, want ok=%v", tt.name, c.name, err, c.ok)
			}
		}
	}
	// a file that has the name of a backup is lost
	m, err := ParseManifest([]byte("remove \"m\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Simulate(m, tree, anyItem, nil)
	if err != nil || !slices.Equal(plan.Order, []string{"m", "m.moz-backup"}) || plan.Changes["m.moz-backup"].Blob != nil {
		t.Errorf("got %v, %v", plan, err)
	}
}

func TestManifestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		manifest string
		codes    []Code
		says     string
	}{
		{"type \"partial\"\n", []Code{CodeNoActions}, "nothing"},
		{"type \"complete\"\n", nil, ""},
		{"add \"a\"\npatch \"p\" \"b\"\nremove \"c\"\nrmdir \"d/\"\nadd-if \"t\" \"e\"\n", nil, ""},
		{"add \"none\"\n", []Code{CodeCrash}, "none"},
		{"add \"empty\"\n", []Code{CodeEntry}, "empty"},
		{"patch \"p\" \"a\"\npatch \"p\" \"b\"\n", []Code{CodeRead}, "line 1"},
		{"patch \"p\" \"a\"\npatch \"q\" \"./a\"\n", []Code{0}, "line 1"},
		{"add \"a.moz-draft\"\nadd \"b.moz-backup\"\n", []Code{0, 0}, ".moz-draft"},
	} {
		m, err := ParseManifest([]byte(tt.manifest))
		if err != nil {
			t.Fatal(err)
		}
		list := m.Check(func(name string) (Item, bool) {
			if name == "empty" {
				return Item{Mode: fs.ModePerm}, true
			}
			return anyItem(name)
		})
		if strings.Contains(tt.manifest, "none") {
			list = m.Check(func(string) (Item, bool) { return Item{}, false })
		}
		var codes []Code
		for _, e := range list {
			codes = append(codes, e.Code)
		}
		if !slices.Equal(codes, tt.codes) || len(list) > 0 && !strings.Contains(list[0].Error(), tt.says) {
			t.Errorf("%q: got %v, want %v", tt.manifest, list, tt.codes)
		}
	}
}
