package shed_test

import (
	"fmt"
	"testing"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

func TestDbg(t *testing.T) {
	l := newPlant(12, 24)
	l.load([shed.Classes]float64{0.2, 0.1, 0.1, 0.2})
	l.run(3000)
	l.load([shed.Classes]float64{0.5, 0.1, 1, 1})
	for range 40 {
		w := l.served
		l.run(250)
		fmt.Println(l.now, "out", l.out(), "limit", l.s.Limit, "base", l.s.BaseNS[0]/1000, "age", l.s.Age, "busy", l.s.Busy, "high", l.s.High, "W", l.s.Work, "Out", l.s.Out, "Before", l.s.Before, l.served-w)
	}
}
