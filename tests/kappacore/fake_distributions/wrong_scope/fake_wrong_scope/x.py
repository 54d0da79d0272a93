class X:
    scope = "process"
