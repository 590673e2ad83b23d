// Package ir is the intermediate representation between policies and xDS:
// plain, sorted structs with units in their names, free of YAML and of
// protobuf. Package compile writes it, package translate turns it into protos.
//
// It also holds the reference matcher (Match), which answers what Envoy's
// router would answer for the same Edge, and Retire, which keeps routes that
// left the policy in the filter's plan for one more generation.
//
// It is a leaf: it imports the standard library only.
package ir
