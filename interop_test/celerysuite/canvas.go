package main

import "github.com/stalkworker/stalk/handlers"

func canvasTasks() []handlers.Handler { return nil }
