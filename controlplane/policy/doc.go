// Package policy is the schema that users write (seawall.io/v1alpha1): the Go
// types of all kinds, their defaults, the strict loader that reads them from
// YAML files, the validation, and the watch that says when files changed.
//
// Everything a user can get wrong ends as a diag.Diagnostic with file, line and
// column; all problems are reported at once. A Set that Load returns is
// complete: defaults are filled in and sugar is resolved, so that package
// compile never asks what an absent field means.
//
// The JSON names of the types are the YAML names. What is decoded but not yet
// built is listed in enforced.go and reported as a warning at its place.
//
//	set, problems, err := policy.Load("policies/payments")
//	if err == nil && !problems.HasErrors() {
//		model, err := compile.Compile(set, compile.Options{})
//	}
//
// It imports diag, filter/contract (the outcome words), slo (the burn alerts) and
// ir (how the router normalises paths), nothing else of the project.
package policy
