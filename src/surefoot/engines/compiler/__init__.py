"""From the elementwise rule to machine code: one loop over all tensors of a step.

The rule runs once on symbols (`symbols`), and a builder (`builders`) makes of each operation a line
of a language (`instructions`: LLVM's intermediate representation; `triton_kernels`: Triton's). The
lines become the body of a loop (`loop`, `representation`): one over vectors of usual numbers, and
one for all others. Around them stand fixed texts: ``parallel_loop.ll`` shares the numbers among
threads, and ``xla_handler.ll`` lets XLA call the loop (`xla`). `llvm` compiles them, under one
lock, and keeps what it has compiled for as long as the process runs, because a backend may call it
at any time.

What a loop writes is decided by its caller: on PyTorch `surefoot.engines.torch.memory` looks at
every tensor before its address is taken; on JAX and TensorFlow XLA hands over buffers that are the
loop's alone. What is compiled depends on the structure of a step only: every hyperparameter reaches
the loop as a number that it reads.
"""
