package racetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// explain searches a history again that no order explains, for the longest that there is.
func (h *hammerHistory[S, I, O]) explain() error {
	result, info := porcupine.CheckOperationsVerbose(h.model(), h.entries(), h.Search)
	if broken := h.broken.Load(); broken != nil {
		return *broken
	}
	if result == porcupine.Ok {
		return errors.New("Load.Step or Equal is not a function: the history was found not linearizable, and then linearizable")
	}
	var longest []int
	for _, order := range info.PartialLinearizations()[0] {
		// porcupine lists them in no order; of the longest, the same is taken each time.
		if c := cmp.Compare(len(order), len(longest)); c > 0 || c == 0 && slices.Compare(order, longest) < 0 {
			longest = order
		}
	}
	e := &NotLinearizable{Key: h.key, Operations: len(h.operations), Unknown: len(h.operations) - h.known,
		Prefix: len(longest), Report: h.Report}
	state, placed := h.Init, make([]bool, len(h.operations))
	for _, i := range longest {
		state, _ = h.Step(state, h.operations[i].In)
		placed[i] = true
	}
	e.State = inShort(state)
	if op := h.firstLeft(placed); op != nil {
		_, want := h.Step(state, op.In)
		e.Operation, e.Want = fmt.Sprintf("caller %d, %s, %v to %v", op.Caller, op.short(), op.Call, op.Return), inShort(want)
	}
	if h.Report != "" {
		e.ReportErr = h.report(info)
	}
	return e
}

// firstLeft returns, of the operations that are not placed, the one that returned first: it cannot wait any longer.
func (h *hammerHistory[S, I, O]) firstLeft(placed []bool) (first *hammerOperation[I, O]) {
	for i, op := range h.operations {
		if !placed[i] && !op.Unknown && (first == nil || op.Return < first.Return) {
			first = op
		}
	}
	return first
}

// report writes the history to Report. Porcupine panics if Step does not do the same again.
func (h *hammerHistory[S, I, O]) report(info porcupine.LinearizationInfo) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("is Step a function? %v", p)
		}
	}()
	return porcupine.VisualizePath(h.model(), info, h.Report)
}
