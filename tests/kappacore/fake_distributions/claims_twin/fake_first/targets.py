def source():
    return "fake-first"
