def source():
    return "fake-second"
