"""The layers of the decoder, one module each, on packed multitensors."""
