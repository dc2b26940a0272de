package layering

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// Every exported field of an exported type that others can import says what it means: in a comment of its own, or by name
// in that of the type or of another field.
func TestFieldsHaveComments(t *testing.T) {
	t.Parallel()
	root := os.DirFS("../..")
	fields := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(name); d.IsDir() {
			if base == "testdata" || base == "internal" || base == "examples" || name != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, src, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range group.Specs {
				spec, ok := s.(*ast.TypeSpec)
				if !ok || !spec.Name.IsExported() {
					continue
				}
				body, ok := spec.Type.(*ast.StructType)
				if !ok {
					continue
				}
				said := group.Doc.Text() + spec.Doc.Text()
				for _, f := range body.Fields.List {
					said += f.Doc.Text() + f.Comment.Text()
				}
				for _, f := range body.Fields.List {
					for _, id := range f.Names {
						if !id.IsExported() {
							continue
						}
						fields++
						if f.Doc == nil && f.Comment == nil && !regexp.MustCompile(`\b`+id.Name+`\b`).MatchString(said) {
							t.Errorf("%s: %s.%s has no comment: say what it means, and in which unit", set.Position(id.Pos()), spec.Name.Name, id.Name)
						}
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if fields < 1000 {
		t.Errorf("only %d fields found", fields)
	}
}
