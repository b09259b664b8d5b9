"""What the tests stand on: engines to judge, images to feed them, a terminal to type at, and the host's state before and after."""
