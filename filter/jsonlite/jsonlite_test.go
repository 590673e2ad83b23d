package jsonlite_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/jsonlite"
)

func TestAppendStringReadsBackAsEncodingJSONWould(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "text") {
			s = rapid.String().Draw(t, "text")
		}
		quoted := jsonlite.AppendString([]byte("x"), s)
		require.Equal(t, byte('x'), quoted[0])

		var got, want string
		require.NoError(t, json.Unmarshal(quoted[1:], &got))
		reference, err := json.Marshal(s)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(reference, &want))
		require.Equal(t, want, got)

		for _, doc := range [][]byte{quoted[1:], reference} {
			r := jsonlite.NewReader(doc)
			require.Equal(t, want, r.String())
			r.End()
			require.NoError(t, r.Err())
		}
	})
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ doc, problem string }{
		"empty":             {"", "not a number"},
		"trailing":          {"1 2", "something after"},
		"leading zero":      {"01", "not a number"},
		"bare minus":        {"-", "not a number"},
		"bare point":        {"1.", "not a number"},
		"bare exponent":     {"1e", "not a number"},
		"trailing comma":    {"[1,]", "not a number"},
		"missing colon":     {`{"a" 1}`, "not a colon"},
		"missing comma":     {`[1 2]`, "not a comma"},
		"open array":        {`[1`, "not a comma"},
		"open object":       {`{"a":1`, "not a comma"},
		"open string":       {`"abc`, "without an end"},
		"open escape":       {`"abc\`, "without an end"},
		"control character": {"\"a\nb\"", "control character"},
		"control after esc": {"\"\\na\nb\"", "control character"},
		"unknown escape":    {`"\q"`, "unknown escape"},
		"short unicode":     {`"\u12"`, "bad \\u escape"},
		"invalid utf-8":     {"\"\xff\"", "not UTF-8"},
		"invalid after esc": {"\"\\n\xff\"", "not UTF-8"},
		"nul byte":          {"1\x00", "something after"},
		"half a literal":    {"nul", "not a value"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := jsonlite.NewReader([]byte(c.doc))
			r.Skip()
			r.End()
			require.ErrorContains(t, r.Err(), c.problem)
			require.False(t, json.Valid([]byte(c.doc)) && name != "invalid utf-8" && name != "invalid after esc")
		})
	}
}

func TestReaderBoundsNesting(t *testing.T) {
	t.Parallel()
	deep := make([]byte, 1_000_000)
	for i := range deep {
		deep[i] = '['
	}
	r := jsonlite.NewReader(deep)
	r.Skip()
	require.ErrorContains(t, r.Err(), "nested too deeply")
}

func TestIntRange(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]int64{"0": 0, "-0": 0, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		r := jsonlite.NewReader([]byte(doc))
		require.Equal(t, want, r.Int())
		require.NoError(t, r.Err())
	}
	for _, doc := range []string{"1.5", "1e3", "9223372036854775808", `"1"`, "null"} {
		r := jsonlite.NewReader([]byte(doc))
		r.Int()
		require.Error(t, r.Err(), doc)
	}
}

func TestObjectWriter(t *testing.T) {
	t.Parallel()
	o := jsonlite.Open(nil)
	o.String("s", "a\"b")
	o.Int("i", -1)
	o.Uint("u", 1<<64-1)
	o.Bool("b", true)
	o.Done(append(o.Key("list"), "[]"...))
	const want = `{"s":"a\"b","i":-1,"u":18446744073709551615,"b":true,"list":[]}`
	require.JSONEq(t, want, string(o.Close()))
	empty := jsonlite.Open(nil)
	require.Equal(t, "{}", string(empty.Close()))
}

// The reader must agree with encoding/json on what is a document, but for
// depth and invalid UTF-8, on which it is stricter.
func FuzzSkip(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e-3,"x\u00e9",null,true,false,{}]}`, `"\ud83d\ude00"`, "[[[[]]]]", " 1 ", "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := jsonlite.NewReader(data)
		r.Skip()
		r.End()
		if r.Err() == nil {
			require.True(t, json.Valid(data))
			return
		}
		if json.Valid(data) {
			msg := r.Err().Error()
			require.Regexp(t, "nested too deeply|not UTF-8", msg)
		}
	})
}
