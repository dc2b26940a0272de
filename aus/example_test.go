package aus_test

import (
	"fmt"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
)

// document is a release as Balrog keeps it.
const document = `{
	"name": "Fox-91.0", "schema_version": 9, "hashFunction": "sha512", "appVersion": "91.0", "displayVersion": "91.0",
	"platforms": {"Linux_x86_64-gcc3": {"locales": {"en-US": {"buildID": "20240401000000", "completes": [{
		"from": "*", "filesize": 5000, "hashValue": "` + sum + `", "fileUrl": "https://dl.example/91.0.complete.mar"
	}]}}}}}`

// What one client gets.
func Example() {
	release, err := aus.NewRelease("Fox-91.0", "Fox", []byte(document), nil)
	if err != nil {
		panic(err)
	}
	product, channel, mapping, minor, n := "Fox", "release*", "Fox-91.0", "minor", int64(100)
	snapshot, problems := aus.Compile(aus.Config{
		Rules:     []aus.Rule{{ID: 1, Priority: &n, BackgroundRate: &n, UpdateType: &minor, Product: &product, Channel: &channel, Mapping: &mapping, DataVersion: 1}},
		Releases:  []*aus.Release{release},
		AllowList: aus.AllowList{{Host: "dl.example", Products: []string{"Fox"}}},
	})
	fmt.Println("problems:", len(problems))
	q, _ := aus.ParseURL("/update/3/Fox/90.0/20240301000000/Linux_x86_64-gcc3/en-US/release/Linux%206.1/default/default/update.xml", nil)
	a := snapshot.Answer(q, aus.Env{Now: time.Now()})
	fmt.Println(a.Outcome, "by rule", a.Rule.ID, "from", a.Release, "complete:", a.Complete, "partial:", a.Partial)
	// Output:
	// problems: 0
	// update by rule 1 from Fox-91.0 complete: true partial: false
}

// Why a client gets nothing.
func ExampleSnapshot_Explain() {
	product, beta, mapping, minor, n := "Fox", "beta", "Fox-91.0", "minor", int64(100)
	snapshot, problems := aus.Compile(aus.Config{Rules: []aus.Rule{
		{ID: 7, Priority: &n, BackgroundRate: &n, UpdateType: &minor, Product: &product, Channel: &beta, Mapping: &mapping},
	}})
	fmt.Println(problems[0])
	q, _ := aus.ParseURL("/update/3/Fox/90.0/20240301000000/Linux_x86_64-gcc3/en-US/release/Linux%206.1/default/default/update.xml", nil)
	x := snapshot.Explain(q, aus.Env{})
	for _, c := range x.Rules {
		fmt.Printf("rule %d: does not match by %s\n", c.Rule.ID, c.Column)
	}
	fmt.Println(x.Answer.Outcome)
	// Output:
	// error: rule 7: mapping: there is no release "Fox-91.0" (Q5)
	// rule 7: does not match by channel
	// no-rule
}

// What may not be saved.
func ExampleValidate() {
	err := aus.Validate([]byte(`{"name": "Fox-92.0", "schema_version": 9, "hashFunction": "sha512", "colour": "red"}`), aus.ValidateOptions{Product: "Fox"})
	fmt.Println(err)
	// Output: aus: invalid release: schema: document: there is no key "colour" here
}
