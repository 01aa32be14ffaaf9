package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

const fields = "name, address, gpa"

// readPatch reads the fields that a request carries. It refuses whatever it does not understand, before anything is
// looked up: what is left over of a patch that is half understood is not what the client asked for.
func readPatch(r *http.Request) (patch, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			message := fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)
			return patch{}, problem{http.StatusRequestEntityTooLarge, message}
		}
		return patch{}, badRequest("the body could not be read")
	}
	b := patchBuilder{seen: map[string]bool{}}
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/json":
		err = b.readJSON(body)
	case "application/x-www-form-urlencoded":
		err = b.readForm(string(body))
	default:
		err = problem{http.StatusUnsupportedMediaType,
			"the Content-Type must be application/json or application/x-www-form-urlencoded"}
	}
	if err == nil && len(b.seen) == 0 {
		err = badRequest("there is no field to change: send one or more of " + fields)
	}
	return b.patch, err
}

// A patchBuilder puts a patch together field by field.
type patchBuilder struct {
	patch patch
	seen  map[string]bool
}

// readJSON reads one JSON object. It goes through the tokens because json.Unmarshal lets pass what is a mistake here:
// null, a field given twice, a name in the wrong case.
func (b *patchBuilder) readJSON(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	start, err := d.Token()
	if err != nil {
		return malformed(err)
	}
	if start != json.Delim('{') {
		return badRequest("the body must be a JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return malformed(err)
		}
		if err := b.set(name.(string), value); err != nil { // in an object, it is a string or an error
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body must be one JSON object, and nothing after it")
	}
	return nil
}

func malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("malformed JSON: the body ends too early")
	}
	return badRequest("malformed JSON: " + err.Error())
}

// readForm reads the values of a form. All of them are text; the gpa has to be the text of a number.
func (b *patchBuilder) readForm(body string) error {
	values, err := url.ParseQuery(body)
	if err != nil {
		return badRequest("malformed form: " + err.Error())
	}
	for name, texts := range values {
		for _, text := range texts {
			value := any(text)
			if name == "gpa" {
				value = json.Number(strings.TrimSpace(text))
			}
			if err := b.set(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// set adds a field to the patch.
func (b *patchBuilder) set(name string, value any) error {
	var ok bool
	must := "a string"
	switch name {
	case "name":
		b.patch.Name, ok = text(value)
	case "address":
		b.patch.Address, ok = text(value)
	case "gpa":
		b.patch.GPA, ok = integer(value)
		must = "an integer"
	default:
		return badRequest(fmt.Sprintf("unknown field %q: the fields are %s", name, fields))
	}
	if !ok {
		return badRequest(fmt.Sprintf("%s must be %s", name, must))
	}
	if b.seen[name] {
		return badRequest(name + " is given twice")
	}
	b.seen[name] = true
	return nil
}

func text(value any) (*string, bool) {
	s, ok := value.(string)
	return &s, ok
}

func integer(value any) (*int64, bool) {
	number, ok := value.(json.Number)
	n, err := number.Int64()
	return &n, ok && err == nil
}
