package aus

func (s *Snapshot) check(report func(Problem)) {}
