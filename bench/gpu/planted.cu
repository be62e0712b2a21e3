// One fault for each sanitizer, to prove that a clean report means something. Launched by planted.py, never by a twin.

// memcheck: thread 255 of 256 writes one element past x, which has n = 255.
extern "C" __global__ void over_the_end(float* x) { x[threadIdx.x] = 1.0f; }

// racecheck: a neighbour's element is read with no barrier after it was written.
extern "C" __global__ void no_barrier(float* x) {
  __shared__ float s[256];
  s[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = s[(threadIdx.x + 33) % 256];
}

// synccheck: one warp waits at a barrier that half of it never reaches.
extern "C" __global__ void half_a_barrier(float* x) {
  if (threadIdx.x < 16) __syncthreads();
  x[threadIdx.x] = 1.0f;
}

// initcheck: reads what nothing has written; y is the first element of fresh memory.
extern "C" __global__ void unwritten(float* x, const float* y) { x[threadIdx.x] = y[threadIdx.x]; }
