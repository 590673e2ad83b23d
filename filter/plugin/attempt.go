package plugin

// ResponseHeaders looks at the answer to a try.
func (vm *VM) ResponseHeaders(uint32) {}
