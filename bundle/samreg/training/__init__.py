"""Training of the embedded model on synthetic images, and the gates that it must pass.

`loop` and all it imports need torch, numpy and safetensors alone; `gates` needs the whole library.
"""
