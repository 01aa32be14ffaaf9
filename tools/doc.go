// Package tools pins the tools that check this project, in a module of its own so that no other module needs them.
package tools
