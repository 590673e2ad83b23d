// Package diag holds what Seawall tells people about their files: findings
// with a stable code, a place, a message and a hint, the catalogue of codes,
// and the renderers for people and for programs.
//
// A finding is made from the catalogue, so that its severity and its
// explanation live in one place:
//
//	d := diag.New(diag.UnknownField, src.At(6, 5), "spec.minRequest", `unknown field "minRequest"`)
//	d.Hint = `did you mean "minRequests"?`
//	d.Excerpt = src.Excerpt(6, 5)
//
// It is a leaf: it imports nothing of the project.
package diag
