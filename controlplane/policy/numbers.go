package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// number decodes what is a number or is spelled with a unit.
func number[T int | Duration | Ratio | Factor | ByteSize](d *decoder, p *T, n *node, c cursor, r rules, parse func(string) (T, error), explain func(*node, string) *flaw) {
	got, err := parse(n.text)
	scalar := n.kind == numberNode || (n.kind == textNode && spelledWithUnit(p))
	if err != nil || !scalar {
		d.at(c, n, explain(n, last(c.path)))
		return
	}
	low, high := bound(parse, r.min), bound(parse, r.max)
	if (r.min != "" && got < low) || (r.max != "" && got > high) {
		d.report(diag.OutOfRange, n.line, n.column, c.path, fmt.Sprintf("%s must be %s, not %s", last(c.path), rangeWords(r.min, r.max), clip(n.text)), "")
		return
	}
	*p = got
}

func spelledWithUnit(p any) bool {
	switch p.(type) {
	case *int, *Factor:
		return false
	default:
		return true
	}
}

func bound[T any](parse func(string) (T, error), s string) T {
	v, _ := parse(s) // TestTags parses every bound
	return v
}

func rangeWords(low, high string) string {
	switch {
	case high == "":
		return "at least " + low
	case low == "":
		return "at most " + high
	default:
		return "between " + low + " and " + high
	}
}

func parseInt(s string) (int, error) { return strconv.Atoi(strings.TrimPrefix(s, "+")) }

// shown is a value as a message repeats it.
func shown(n *node) string {
	if n.kind == numberNode || n.kind == textNode {
		return strconv.Quote(clip(n.text))
	}
	return n.kind.String()
}

func durationFlaw(n *node, name string) *flaw {
	hint := "write 250ms, 1.5s, 2m, 1h30m or 30d"
	if n.kind == numberNode {
		hint = fmt.Sprintf("write %ss or %sms", n.text, n.text)
	}
	return &flaw{diag.BadDuration, name + " must be a duration, not " + shown(n), hint}
}

func ratioFlaw(n *node, name string) *flaw {
	hint := "write 5% or 0.01%; four decimals at most"
	if n.kind == numberNode {
		hint = fmt.Sprintf("ratios are written in percent: %s%%?", n.text)
		if ppm, err := scaled(n.text, int64(one)); err == nil && ppm <= int64(one) {
			hint = fmt.Sprintf("ratios are written in percent: %s", Ratio(ppm))
		}
	}
	return &flaw{diag.BadRatio, name + " must be a ratio in percent, not " + shown(n), hint}
}

func factorFlaw(n *node, name string) *flaw {
	return &flaw{diag.WrongType, name + " must be a number with at most six decimals, not " + shown(n), "write 1.5"}
}

func sizeFlaw(n *node, name string) *flaw {
	hint := "write 512B, 64KiB, 10MiB or 1GiB"
	if n.kind == numberNode {
		hint = fmt.Sprintf("write %sB", n.text)
	}
	return &flaw{diag.BadSize, name + " must be a size, not " + shown(n), hint}
}

func intFlaw(n *node, name string) *flaw {
	hint := ""
	if _, err := parseInt(n.text); err == nil {
		hint = "write it without quotes"
	}
	return &flaw{diag.WrongType, name + " must be a whole number, not " + shown(n), hint}
}
