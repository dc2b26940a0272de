package aus

// Explanation says how a query is answered, rule by rule.
type Explanation struct {
	Query  Query        `json:"query"` // what was asked, as it was understood
	Answer Answer       `json:"-"`     // what is answered
	Rules  []Considered `json:"rules"` // those of the query's product and of every product, by ID
}

// Considered is one rule as a query met it.
type Considered struct {
	Rule *Rule `json:"rule"` // the rule that was looked at
	// Column is the first column that does not match, or "" where all match.
	Column Column `json:"column,omitempty"`
	// Decides says that this is the rule that decides: of those that match, the one of the highest priority.
	Decides bool `json:"decides"`
}

func (x *Explanation) add(r *compiledRule, column Column, ok bool) {
	c := Considered{Rule: r.Rule}
	if !ok {
		c.Column = column
	}
	x.Rules = append(x.Rules, c)
}

// Explain answers a query and says why. Rules of other products are left out; so are those of the products of a superblob, and
// all where a shutoff decided.
func (s *Snapshot) Explain(q Query, env Env) Explanation {
	x := Explanation{Query: q}
	e := newEvaluation(s, &q, &env, false)
	e.explain = &x
	x.Answer = e.answer()
	for i := range x.Rules {
		x.Rules[i].Decides = x.Answer.Rule != nil && x.Rules[i].Rule == x.Answer.Rule
	}
	return x
}
