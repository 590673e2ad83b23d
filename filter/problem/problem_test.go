package problem_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/problem"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	types := problem.Types()
	for i, typ := range types {
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, typ.Slug)
		require.NotEmpty(t, typ.Title)
		require.NotEmpty(t, typ.Meaning)
		require.NotEmpty(t, typ.Action)
		require.GreaterOrEqual(t, typ.Status, 400)
		require.Less(t, typ.Status, 600)
		require.Contains(t, []int{4, 7, 8, 12, 13, 14}, typ.GRPC)
		if i > 0 {
			require.Less(t, types[i-1].Slug, typ.Slug, "sorted, no doubles")
		}
		found, ok := problem.Lookup(typ.Slug)
		require.True(t, ok)
		require.Equal(t, typ, found)
	}
	_, ok := problem.Lookup("no-such-problem")
	require.False(t, ok)
	types[0].Slug = "changed"
	require.NotEqual(t, "changed", problem.Types()[0].Slug, "a copy")
}

func TestAppendJSONIsWhatEncodingJSONWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		yes := rapid.Bool().Draw(t, "retryable")
		d := problem.Document{
			Type: rapid.String().Draw(t, "type"), Title: rapid.String().Draw(t, "title"), Status: rapid.IntRange(0, 999).Draw(t, "status"),
			Detail: rapid.String().Draw(t, "detail"), Instance: rapid.String().Draw(t, "instance"), RetryAfter: rapid.IntRange(0, 1<<31-1).Draw(t, "after"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "errors") {
			d.Errors = append(d.Errors, problem.Violation{Detail: rapid.String().Draw(t, "what"), Pointer: rapid.String().Draw(t, "where")})
		}
		d.Limit, d.Window = rapid.IntRange(0, 1<<31-1).Draw(t, "limit"), rapid.IntRange(0, 1<<31-1).Draw(t, "window")
		if rapid.Bool().Draw(t, "said") {
			d.Retryable = &yes
		}
		out := problem.AppendJSON(nil, &d)
		reference, err := json.Marshal(d)
		require.NoError(t, err)
		require.JSONEq(t, string(reference), string(out))
		back, err := problem.Parse(out)
		require.NoError(t, err)
		require.Equal(t, d, back)
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	d := problem.New("https://shop.example/p/", problem.BreakerOpen, "why", "id-1")
	require.Equal(t, "https://shop.example/p/breaker-open", d.Type)
	require.Equal(t, "breaker-open", d.Slug())
	require.Equal(t, 503, d.Status)
	require.True(t, d.IsRetryable())
	d = problem.New("", problem.NoRoute, "", "")
	require.Equal(t, problem.DefaultBase+"no-route", d.Type)
	require.False(t, d.IsRetryable())
	d = problem.New("", "no-such", "", "")
	require.Equal(t, "about:blank", d.Type)
}

func TestParse(t *testing.T) {
	t.Parallel()
	no := false
	cases := map[string]struct {
		doc  string
		want problem.Document
	}{
		"empty object":      {`{}`, problem.Document{Type: "about:blank"}},
		"foreign":           {`{"title":"Out of credit","status":403,"balance":30,"accounts":["/a"]}`, problem.Document{Type: "about:blank", Title: "Out of credit", Status: 403}},
		"wrong types":       {`{"type":7,"title":null,"status":"503","detail":["x"],"retryable":"no","retry_after":1.5}`, problem.Document{Type: "about:blank"}},
		"negative":          {`{"retry_after":-1,"status":99999999999}`, problem.Document{Type: "about:blank"}},
		"not retryable":     {`{"retryable":false,"status":503}`, problem.Document{Type: "about:blank", Status: 503, Retryable: &no}},
		"truth of no sense": {`{"title":true}`, problem.Document{Type: "about:blank"}},
		"violations": {
			`{"status":422,"errors":[{"detail":"must be positive","pointer":"#/age"},{"message":"is no colour","field":"colour","code":7},{"detail":"both","message":"x","pointer":"#/a","field":"b"},"text",null,[{}],{}]}`,
			problem.Document{Type: "about:blank", Status: 422, Errors: []problem.Violation{{"must be positive", "#/age"}, {"is no colour", "colour"}, {"both", "#/a"}, {}}},
		},
		"errors of another kind": {`{"errors":{"age":["must be positive"]}}`, problem.Document{Type: "about:blank"}},
		"a rate limit":           {`{"status":429,"limit":100,"window":60,"retry_after":7}`, problem.Document{Type: "about:blank", Status: 429, Limit: 100, Window: 60, RetryAfter: 7}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := problem.Parse([]byte(c.doc))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	many, err := problem.Parse([]byte(`{"errors":[{}` + strings.Repeat(`,{}`, 2*problem.MaxErrors) + `]}`))
	require.NoError(t, err)
	require.Len(t, many.Errors, problem.MaxErrors)
	_, err = problem.Parse([]byte(`[]`))
	require.EqualError(t, err, "problem document: offset 0: not an object")
	_, err = problem.Parse([]byte(`"` + strings.Repeat("x", problem.MaxDocument) + `"`))
	require.EqualError(t, err, "problem document: more than 64 KiB")
}

func TestIsRetryableByStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{400: false, 404: false, 408: true, 429: true, 500: false, 502: true, 503: true, 504: true} {
		d := problem.Document{Status: status}
		require.Equal(t, want, d.IsRetryable(), status)
	}
}

func TestWhatAClientCanAskOf(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		doc         string
		validation  bool
		rateLimited bool
		limit       problem.RateLimit
	}{
		"a list of violations":        {`{"status":400,"errors":[{"detail":"x"}]}`, true, false, problem.RateLimit{}},
		"422 without a list":          {`{"status":422}`, true, false, problem.RateLimit{}},
		"400 without a list":          {`{"status":400,"errors":[]}`, false, false, problem.RateLimit{}},
		"429 alone":                   {`{"status":429}`, false, true, problem.RateLimit{}},
		"429 that says more":          {`{"status":429,"limit":100,"window":60,"retry_after":7}`, false, true, problem.RateLimit{Limit: 100, Window: 60, RetryAfter: 7}},
		"a limit with another status": {`{"status":503,"limit":100,"window":60}`, false, true, problem.RateLimit{Limit: 100, Window: 60}},
		"a limit of something else":   {`{"status":413,"limit":1024}`, false, false, problem.RateLimit{}},
		"our own":                     {`{"status":503,"retryable":true,"retry_after":1}`, false, false, problem.RateLimit{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := problem.Parse([]byte(c.doc))
			require.NoError(t, err)
			require.Equal(t, c.validation, d.IsValidation())
			limit, ok := d.RateLimit()
			require.Equal(t, c.rateLimited, ok)
			require.Equal(t, c.limit, limit)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"t","title":"x","status":503,"retryable":true,"retry_after":5}`))
	f.Add([]byte(`{"status":422,"errors":[{"detail":"x","pointer":"#/a"},{"message":"y","field":"b"}],"limit":1,"window":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := problem.Parse(data)
		if err != nil {
			return
		}
		again, err := problem.Parse(problem.AppendJSON(nil, &d))
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}
