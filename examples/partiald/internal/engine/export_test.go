package engine

// Deafen ends the watches, as the client of the queue does where the engine refuses what it did not expect.
func (e *Engine) Deafen() {
	e.unwatch()
	e.deaf.Store(true)
	poke(e.sick)
}
