// The filter: Seawall's data plane as a Wasm module for Envoy.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared ./filter
package main

// main is never called: the module is a library, its callbacks are registered
// when it is initialised.
func main() {}
