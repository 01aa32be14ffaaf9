package serial_test

const childDriver = "RACEPROOF_TEST_SERIAL_DRIVER"

func child() {}
