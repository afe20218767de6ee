// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crashtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// outputEvent is the name of the events that are writes to descriptor 1.
const outputEvent = "output"

// An event is one call that succeeded, in the order in which calls returned;
// of output it is the beginning of the call.
type event struct {
	name string
	args []string // as strace prints them, without the bytes that are in data
	data []byte
	ret  string
	end  time.Time
	// begun is the number of events that had happened when the call began.
	begun int
}

// A pending is a call of one thread that has not returned.
type pending struct {
	text  string
	start time.Time
	begun int
}

// parseLog reads what strace -f -y -xx -ttt -T wrote. A last line that is cut
// off is passed over.
func parseLog(log []byte) ([]event, error) {
	var events []event
	open := make(map[string]pending)
	for line := range bytes.Lines(log) {
		text := string(line)
		if !strings.HasSuffix(text, "\n") {
			break
		}
		pid, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
		stamp, call, ok2 := strings.Cut(strings.TrimLeft(rest, " "), " ")
		if !ok || !ok2 {
			return nil, fmt.Errorf("line %.200q", text)
		}
		if strings.HasPrefix(call, "+++") || strings.HasPrefix(call, "---") {
			delete(open, pid)
			continue
		}
		start, err := parseTime(stamp)
		if err != nil {
			return nil, fmt.Errorf("line %.200q: %w", text, err)
		}
		p := pending{text: call, start: start, begun: len(events)}
		if _, tail, resumed := strings.Cut(call, " resumed>"); resumed && strings.HasPrefix(call, "<... ") {
			p, ok = open[pid]
			if !ok {
				return nil, fmt.Errorf("line %.200q resumes nothing", text)
			}
			delete(open, pid)
			p.text += tail
		} else if output, ok := outputOf(call); ok {
			events = append(events, event{name: outputEvent, data: output, end: start, begun: len(events)})
		}
		if head, ok := strings.CutSuffix(p.text, " <unfinished ...>"); ok {
			p.text = head
			open[pid] = p
			continue
		}
		e, ok, err := parseCall(p)
		if err != nil {
			return nil, err
		}
		if ok {
			events = append(events, e)
		}
	}
	return events, nil
}

func parseTime(stamp string) (time.Time, error) {
	seconds, micros, ok := strings.Cut(stamp, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	us, err2 := strconv.ParseInt(micros, 10, 64)
	if !ok || err != nil || err2 != nil || len(micros) != 6 {
		return time.Time{}, fmt.Errorf("time %q", stamp)
	}
	return time.Unix(s, us*1000), nil
}

// outputOf returns what the call, finished or not, writes to descriptor 1.
func outputOf(call string) ([]byte, bool) {
	rest, ok := strings.CutPrefix(call, "write(1<")
	if !ok {
		return nil, false
	}
	_, rest, ok = strings.Cut(rest, `, "`)
	if !ok {
		return nil, false
	}
	text, _, ok := strings.Cut(rest, `"`)
	data, err := unhex(text)
	return data, ok && err == nil
}

// unhex decodes the strings of strace -xx.
func unhex(s string) ([]byte, error) {
	if len(s)%4 != 0 || strings.Count(s, `\x`) != len(s)/4 {
		return nil, fmt.Errorf("string %.100q is not all hexadecimal", s)
	}
	return hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
}

// parseCall reads a call that has returned; it is not ok if it failed.
func parseCall(p pending) (e event, ok bool, err error) {
	bad := fmt.Errorf("call %.200q", p.text)
	name, rest, found := strings.Cut(p.text, "(")
	// Strings and paths are hexadecimal, so this can be no part of one.
	end := strings.LastIndex(rest, " = ")
	if !found || end < 0 {
		return event{}, false, bad
	}
	arguments, found := strings.CutSuffix(strings.TrimRight(rest[:end], " "), ")")
	if !found {
		return event{}, false, bad
	}
	result := rest[end+len(" = "):]
	result, duration, timed := strings.Cut(result, " <0.")
	if !timed {
		result, duration, timed = cutDuration(result)
	} else {
		duration = "0." + duration
	}
	if strings.HasPrefix(result, "-1") || strings.HasPrefix(result, "?") {
		return event{}, false, nil
	}
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(duration, ">"), 64)
	if !timed || err != nil {
		return event{}, false, bad
	}
	e = event{
		name: name, ret: result, begun: p.begun,
		// The clock and the duration are each cut to microseconds.
		end: p.start.Add(time.Duration(seconds*float64(time.Second)) + 2*time.Microsecond),
	}
	e.args = strings.Split(arguments, ", ")
	if name == "write" || name == "pwrite64" {
		if len(e.args) < 3 || !strings.HasPrefix(e.args[1], `"`) || !strings.HasSuffix(e.args[1], `"`) {
			return event{}, false, bad
		}
		e.data, err = unhex(strings.Trim(e.args[1], `"`))
		n, err2 := strconv.Atoi(result)
		if err != nil || err2 != nil || n > len(e.data) {
			return event{}, false, bad
		}
		e.data, e.args[1] = e.data[:n], ""
	}
	return e, true, nil
}

// cutDuration splits off a duration of a second or more.
func cutDuration(result string) (before, duration string, ok bool) {
	i := strings.LastIndex(result, " <")
	if i < 0 {
		return result, "", false
	}
	return result[:i], result[i+2:], true
}

// descriptor splits "3<\x2f…>" into number and path. The path is empty where
// there is none: a pipe, a deleted file.
func descriptor(arg string) (number, path string, err error) {
	number, rest, ok := strings.Cut(arg, "<")
	if !ok || !strings.HasSuffix(rest, ">") || !strings.HasPrefix(rest, `\x2f`) {
		return number, "", nil
	}
	decoded, err := unhex(strings.TrimSuffix(rest, ">"))
	return number, string(decoded), err
}
