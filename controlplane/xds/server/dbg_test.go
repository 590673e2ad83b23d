package server

import (
	"fmt"
	"os"
)

var dbg = os.Getenv("DBG") != ""

func dbgf(f string, a ...any) {
	if dbg {
		fmt.Fprintf(os.Stderr, f+"\n", a...)
	}
}
