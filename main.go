// Command stalk is the stock worker: the demo tasks, the image tasks, and nothing of your own. Your own
// worker is this file with your handlers in the call of command.Main.
package main

import "github.com/stalkworker/stalk/command"

func main() { command.Main() }
