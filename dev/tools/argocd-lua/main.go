// Runs a Lua script, its argument, on each object on stdin, a stream of JSON, and prints the table that
// it returns as a line of JSON. The virtual machine is Argo CD's, with the few libraries that Argo CD
// lets scripts have: no strings, no files, and of os only what tells the time.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

func main() {
	for stream := json.NewDecoder(os.Stdin); ; {
		var object any
		if err := stream.Decode(&object); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		answer, err := run(os.Args[1], object)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(answer))
	}
}

func run(script string, object any) ([]byte, error) {
	vm := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer vm.Close()
	for _, open := range []lua.LGFunction{lua.OpenPackage, lua.OpenBase, lua.OpenTable} {
		vm.Push(vm.NewFunction(open))
		vm.Call(0, 0)
	}
	vm.PreloadModule("os", clock)
	luajson.Preload(vm)
	vm.SetGlobal("obj", luajson.DecodeValue(vm, object))
	if err := vm.DoString(script); err != nil {
		return nil, err
	}
	table, ok := vm.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returned %s, not a table", vm.Get(-1).Type())
	}
	return luajson.Encode(table)
}

// As in Argo CD, it has to be required.
func clock(vm *lua.LState) int {
	lua.OpenOs(vm)
	vm.SetGlobal("os", lua.LNil)
	module := vm.Get(-1).(*lua.LTable)
	for _, name := range []string{"clock", "difftime", "execute", "exit", "getenv", "remove", "rename",
		"setenv", "setlocale", "tmpname"} {
		module.RawSetString(name, lua.LNil)
	}
	return 1
}
