// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// recordedCases are request sequences with the answers that AWS KMS gave; the
// README beside the file describes the format.
const recordedCases = "../../../shared/testdata/kms/recorded-cases.json"

type recordedCase struct {
	Name  string
	Steps []recordedStep
}

type recordedStep struct {
	Op           string
	Input        map[string]any
	Region       string
	Save         map[string]string
	Expect       *recordedExpectation
	RetrySeconds float64 `json:"retry_seconds"`
	UntilError   int     `json:"until_error"`
}

type recordedExpectation struct {
	Output any
	Error  *struct {
		Code    string
		Message *string
		HTTP    int
	}
	Mode      string
	Allow     []string
	Unordered []string
}

// excused are the cases that are not held against this service, each with what
// AWS does there that is no part of its documented behaviour. At most three may be.
var excused = map[string]string{}

// TestRecorded replays every case against "cretula up".
func TestRecorded(t *testing.T) { replayRecorded(t, newUp) }

// replayRecorded replays every case against a service.
func replayRecorded(t *testing.T, start func(*testing.T) *service) {
	data, err := os.ReadFile(recordedCases)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("shared test data not present")
	}
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []recordedCase }
	if err := json.Unmarshal(data, &file); err != nil || len(file.Cases) < 69 {
		t.Fatalf("%d cases, %v", len(file.Cases), err)
	}
	if len(excused) > 3 {
		t.Errorf("%d cases are excused", len(excused))
	}
	s := start(t)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			p := player{t: t, service: s, vars: map[string]any{
				"env.partition": "aws", "env.region": region, "env.secondary_region": "eu-central-1", "env.account": account,
			}}
			if err := p.play(c); err != nil && excused[c.Name] == "" {
				t.Error(err)
			}
		})
	}
}

// A player runs the steps of one case.
type player struct {
	t       *testing.T
	service *service
	vars    map[string]any
}

func (p *player) play(c recordedCase) error {
	for i, step := range c.Steps {
		if err := p.step(step); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, step.Op, err)
		}
	}
	return nil
}

func (p *player) step(step recordedStep) error {
	deadline := time.Now().Add(time.Duration(step.RetrySeconds * float64(time.Second)))
	for try := 1; ; try++ {
		status, answer, err := p.call(step)
		if err != nil {
			return err
		}
		if step.UntilError > 0 {
			code, _ := answer["__type"].(string)
			if try < step.UntilError && (status == http.StatusOK || code == "ConflictException") {
				continue
			}
		}
		err = p.judge(step, status, answer)
		if err == nil || !time.Now().Before(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// call sends one request, or computes a local operation.
func (p *player) call(step recordedStep) (int, map[string]any, error) {
	input, _ := p.substitute(step.Input).(map[string]any)
	if local, ok := localOperations[step.Op]; ok {
		answer, err := local(input)
		return http.StatusOK, answer, err
	}
	body, err := json.Marshal(input)
	if err != nil {
		return 0, nil, err
	}
	inRegion := region
	if step.Region == "secondary" {
		inRegion = p.vars["env.secondary_region"].(string)
	}
	status, text, _ := p.service.send(raw{target: "TrentService." + step.Op, body: string(body), region: inRegion})
	answer := map[string]any{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			return 0, nil, err
		}
	}
	return status, answer, nil
}

// judge saves variables and compares the answer.
func (p *player) judge(step recordedStep, status int, answer map[string]any) error {
	if status == http.StatusOK {
		for name, path := range step.Save {
			p.vars[name] = lookup(answer, path)
		}
	}
	e := step.Expect
	switch {
	case e == nil:
		return nil
	case e.Error != nil:
		return p.judgeError(e, status, answer)
	case status != http.StatusOK:
		return fmt.Errorf("answered %d %v, want success", status, answer)
	case e.Output == "<any>":
		return nil
	}
	m := matcher{player: p, expect: e}
	return m.match("", e.Output, answer)
}

func (p *player) judgeError(e *recordedExpectation, status int, answer map[string]any) error {
	code, _ := answer["__type"].(string)
	code = code[strings.LastIndexByte(code, '#')+1:]
	if status != e.Error.HTTP && e.Error.HTTP != 0 || code != e.Error.Code {
		return fmt.Errorf("answered %d %v, want %d %s", status, answer, e.Error.HTTP, e.Error.Code)
	}
	if e.Error.Message == nil {
		return nil
	}
	message := answer["message"]
	if message == nil {
		message = answer["Message"]
	}
	if *e.Error.Message == "" {
		if message != nil && message != "" {
			return fmt.Errorf("message %q, want none", message)
		}
		return nil
	}
	m := matcher{player: p, expect: e}
	return m.match("message", *e.Error.Message, message)
}

func lookup(answer any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		m, _ := answer.(map[string]any)
		answer = m[name]
	}
	return answer
}

// substitute replaces ${name} in all strings of a value.
func (p *player) substitute(v any) any {
	switch v := v.(type) {
	case string:
		for name, value := range p.vars {
			v = strings.ReplaceAll(v, "${"+name+"}", fmt.Sprint(value))
		}
		return v
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[p.substitute(name).(string)] = p.substitute(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = p.substitute(value)
		}
		return out
	}
	return v
}

// localOperations are computed by the runner. More of them come with the
// operations that need them.
var localOperations = map[string]func(map[string]any) (map[string]any, error){
	"Local.Bytes": func(in map[string]any) (map[string]any, error) {
		b, err := base64.StdEncoding.DecodeString(fmt.Sprint(in["Base64"]))
		if err != nil {
			return nil, err
		}
		if skip, ok := in["Skip"].(float64); ok {
			b = b[int(skip):]
		}
		if more, ok := in["Append"].(string); ok {
			tail, err := base64.StdEncoding.DecodeString(more)
			if err != nil {
				return nil, err
			}
			b = append(b, tail...)
		}
		return map[string]any{"Base64": base64.StdEncoding.EncodeToString(b)}, nil
	},
	"Local.NotEqual": func(in map[string]any) (map[string]any, error) {
		if in["A"] == in["B"] {
			return nil, errors.New("the values are equal")
		}
		return nil, nil
	},
}
