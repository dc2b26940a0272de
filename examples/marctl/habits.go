package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// A habit is a command line of another tool, and what does the same here.
type habit struct{ theirs, ours string }

// A tool is a program that people come from.
type tool struct {
	name, what string
	remark     string
	habits     []habit
}

// habitsOf are those of which "marctl help NAME" has a table. The names in it are files of the test that tries each line.
var habitsOf = []tool{
	{
		"mar", "libmar's mar, as Mozilla builds it", "Names in create are relative to -C, as there.",
		[]habit{
			{"mar -t update.mar", "marctl list update.mar"},
			{"mar -T update.mar", "marctl list update.mar"},
			{"mar -x update.mar", "marctl extract --raw update.mar dir"},
			{"mar -C dir -x update.mar", "marctl extract --raw update.mar dir"},
			{"mar -H chan -V 1.0 -c new.mar a.txt", "marctl create -H chan -V 1.0 new.mar a.txt"},
			{"mar -H chan -V 1.0 -C in -c new.mar a.txt", "marctl create -H chan -V 1.0 -C in new.mar a.txt"},
			{"mar -H chan -V 1.1 -i update.mar", "marctl info refresh -H chan -V 1.1 update.mar new.mar"},
		},
	},
	{
		"signmar", "signmar, which is mar built with NSS", `Keys stand in PEM files or are held by plugins: there is no NSS database. Export a certificate with
"certutil -L -d nss -n NAME -r" and a key with pk12util.`,
		[]habit{
			{"signmar -d nss -n key -s update.mar new.mar", "marctl sign update.mar new.mar --pem key.pem"},
			{"signmar -d nss -n0 key -n1 other -s update.mar new.mar", "marctl sign update.mar new.mar --pem key.pem --pem other.pem"},
			{"signmar -D key.der -v signed.mar", "marctl verify signed.mar --key key.der"},
			{"signmar -d nss -n key -v signed.mar", "marctl verify signed.mar --key key.der"},
			{"signmar -r signed.mar new.mar", "marctl strip signed.mar new.mar"},
			{"signmar -n0 -X signed.mar sig.b64", "marctl signature extract signed.mar 0 sig.b64"},
			{"signmar -n0 -I signed.mar theirs.b64 new.mar", "marctl signature import signed.mar 0 theirs.b64 new.mar"},
		},
	},
	{
		"mardor", "mardor, the mar of build-mar in Python", `mardor signs with the SHA that the length of the key says; here it is SHA-384 unless --sha1 is given.
:mozilla-NAME stands for both keys of that name in verify --any and --updater.`,
		[]habit{
			{"mar -t update.mar", "marctl list update.mar"},
			{"mar -T signed.mar", "marctl list signed.mar"},
			{"mar -x update.mar", "marctl extract --raw update.mar dir"},
			{"mar -C dir --auto -x update.mar", "marctl extract update.mar dir"},
			{"mar -H chan -V 1.0 -c new.mar a.txt", "marctl create -H chan -V 1.0 new.mar a.txt"},
			{"mar -j -H chan -V 1.0 -c new.mar a.txt", "marctl create --compression bzip2 -H chan -V 1.0 new.mar a.txt"},
			{"mar -J -H chan -V 1.0 -c new.mar a.txt", "marctl create --compression xz -H chan -V 1.0 new.mar a.txt"},
			{"mar -J --x86 -H chan -V 1.0 -c new.mar a.txt", "marctl create --compression xz --filter x86 -H chan -V 1.0 new.mar a.txt"},
			{"mar -v signed.mar", "marctl list signed.mar"},
			{"mar -k key.pub -v signed.mar", "marctl verify --any --key key.pub signed.mar"},
			{"mar -k :mozilla-release -v release.mar", "marctl verify --any --key :mozilla-release release.mar"},
			{"mar --hash sha384 update.mar", "marctl digest --base64 update.mar"},
			{"mar --hash sha384 --asn1 update.mar", "marctl digest --base64 --asn1 update.mar"},
			{"mar --hash sha1 update.mar", "marctl digest --base64 --sha1 update.mar"},
			{"mar --add-signature update.mar new.mar sig.bin", "marctl signature add update.mar sig.bin new.mar"},
		},
	},
}

// habitTopics are the pages of "marctl help mar", "help signmar" and "help mardor".
func habitTopics() []*cobra.Command {
	topics := make([]*cobra.Command, 0, len(habitsOf))
	for _, t := range habitsOf {
		var table strings.Builder
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		for _, h := range t.habits {
			_, _ = fmt.Fprintf(w, "  %s\t%s\n", h.theirs, h.ours) // a strings.Builder takes everything
		}
		_ = w.Flush()
		topics = append(topics, &cobra.Command{
			Use:   t.name,
			Short: "What does the same as " + t.what,
			Long:  "From " + t.what + ", to marctl:\n\n" + table.String() + "\n" + t.remark,
		})
	}
	return topics
}
