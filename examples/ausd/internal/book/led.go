package book

import (
	"context"
	"encoding/json"
	"slices"
)

// Led says to which releases rules have ever led, by product and channel.
type Led struct {
	channels map[string][]ledBy // by release
}

type ledBy struct{ product, channel string } // "" is every one

// By says whether clients of a product and channel may have a release: a rule has led them to it, or none has ever led anybody
// to it, so that nothing says whose it is.
func (l *Led) By(product, channel, release string) bool {
	by := l.channels[release]
	return len(by) == 0 || slices.ContainsFunc(by, func(b ledBy) bool {
		return (b.product == "" || b.product == product) && (b.channel == "" || b.channel == channel)
	})
}

// Led reads every rule that ever held.
func (b *Book) Led(ctx context.Context) (*Led, error) {
	rows, err := b.db.Rows(ctx, `SELECT o.body FROM objects o WHERE EXISTS (SELECT 1 FROM contents c WHERE c.kind = 'rule' AND c.hash = o.hash)`)
	bodies, err := collect(rows, err, func(r row) (body []byte, err error) {
		err = r.Scan(&body)
		return body, err
	})
	if err != nil {
		return nil, err
	}
	l := &Led{map[string][]ledBy{}}
	for _, body := range bodies {
		var rule struct{ Product, Channel, Mapping, FallbackMapping string }
		if err := json.Unmarshal(body, &rule); err != nil {
			return nil, err
		}
		by := ledBy{rule.Product, rule.Channel}
		for _, release := range []string{rule.Mapping, rule.FallbackMapping} {
			if release != "" && !slices.Contains(l.channels[release], by) {
				l.channels[release] = append(l.channels[release], by)
			}
		}
	}
	return l, nil
}
