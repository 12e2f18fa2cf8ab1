"""From the elementwise rule to machine code: one loop over all tensors of a step.

The rule runs once on symbols (`symbols`), each operation becomes a line of LLVM's intermediate
representation, and the lines become the body of a loop (`loop`). Around it stand two fixed texts in
that representation: ``parallel_loop.ll`` shares the numbers among threads, and ``xla_handler.ll``
lets XLA call it. `llvm` compiles them, under one lock, and keeps what it has compiled for as long
as the process runs, because a backend may call it at any time.

What a loop writes is decided by its caller: on PyTorch `surefoot.engines.torch.memory` looks at
every tensor before its address is taken; on JAX and TensorFlow XLA hands over buffers that are the
loop's alone. What is compiled depends on the structure of a step only: every hyperparameter reaches
the loop as a number that it reads.
"""
