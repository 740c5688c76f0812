"""From protein sequences to activations of a protein language model, in TensorStore.

Import the modules directly: ``extract.store`` works without torch, ``extract.plm`` needs it.
"""
