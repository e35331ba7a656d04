// Command gitops tells what deployment tools make of objects: kstatus, Flux's health check expressions, and Argo CD's Lua
// scripts in the interpreter that Argo CD has. It reads one question as JSON from standard input and writes the answers as JSON.
// With the argument apply it applies one object as Flux does, and writes what that did.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Objects      []unstructured.Unstructured   `json:"objects"`
	HealthChecks []kustomize.CustomHealthCheck `json:"healthChecks"`
	// Scripts of Argo CD.
	HealthLua    string `json:"healthLua"`
	DiscoveryLua string `json:"discoveryLua"`
	ActionLua    string `json:"actionLua"`
}

type answer struct {
	Kstatus string `json:"kstatus"`
	Flux    string `json:"flux"`
	// What the scripts return.
	ArgoHealth  any `json:"argoHealth"`
	ArgoActions any `json:"argoActions"`
	ArgoObject  any `json:"argoObject"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "apply" {
		action, err := apply(os.Stdin)
		if err != nil {
			fail(err)
		}
		fmt.Println(action)
		return
	}
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fail(err)
	}
	answers := make([]answer, 0, len(asked.Objects))
	for _, object := range asked.Objects {
		answered, err := asked.about(&object)
		if err != nil {
			fail(fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err))
		}
		answers = append(answers, answered)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (asked *question) about(object *unstructured.Unstructured) (answer, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	answered := answer{Kstatus: computed.Status.String()}
	if answered.Flux, err = asked.flux(object); err != nil {
		return answer{}, err
	}
	for script, result := range map[string]*any{
		asked.HealthLua:    &answered.ArgoHealth,
		asked.DiscoveryLua: &answered.ArgoActions,
		asked.ActionLua:    &answered.ArgoObject,
	} {
		if *result, err = run(script, object); err != nil {
			return answer{}, err
		}
	}
	return answered, nil
}

// What Flux's kustomize-controller and helm-controller make of the object by the expressions for its kind.
func (asked *question) flux(object *unstructured.Unstructured) (string, error) {
	for _, check := range asked.HealthChecks {
		if check.APIVersion != object.GetAPIVersion() || check.Kind != object.GetKind() {
			continue
		}
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return "", err
		}
		result, err := evaluator.Evaluate(context.Background(), object)
		if err != nil {
			return "", err
		}
		return result.Status.String(), nil
	}
	return "", fmt.Errorf("there is no expression for it")
}

// The libraries that Argo CD's scripts have; of os they have the time alone.
func run(script string, object *unstructured.Unstructured) (any, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
		lua.StringLibName: lua.OpenString, lua.MathLibName: lua.OpenMath, lua.OsLibName: openTime,
	}
	for name, open := range libraries {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	return fromLua(state.Get(-1)), nil
}

func openTime(state *lua.LState) int {
	lua.OpenOs(state)
	all, ok := state.GetGlobal(lua.OsLibName).(*lua.LTable)
	if !ok {
		return 0
	}
	some := state.NewTable()
	for _, name := range []string{"time", "date"} {
		state.SetField(some, name, state.GetField(all, name))
	}
	state.SetGlobal(lua.OsLibName, some)
	return 0
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, entry := range value {
			table.RawSetString(key, toLua(state, entry))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, entry := range value {
			table.Append(toLua(state, entry))
		}
		return table
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	default:
		return lua.LNil
	}
}

func fromLua(value lua.LValue) any {
	switch value := value.(type) {
	case *lua.LTable:
		if value.MaxN() > 0 {
			list := make([]any, 0, value.MaxN())
			value.ForEach(func(_, entry lua.LValue) { list = append(list, fromLua(entry)) })
			return list
		}
		object := map[string]any{}
		value.ForEach(func(key, entry lua.LValue) { object[key.String()] = fromLua(entry) })
		return object
	case lua.LString:
		return string(value)
	case lua.LBool:
		return bool(value)
	case lua.LNumber:
		return float64(value)
	default:
		return nil
	}
}
