// The program of a Pod's sandbox.
module github.com/dps-operator/dps-operator/dev/node/pause

go 1.26.0
