"""Hot loops as the compilers of TPUs and GPUs see them, on a machine that has neither.

Every figure here is the compiler's, not a clock's: what it will store, move and launch.
"""
