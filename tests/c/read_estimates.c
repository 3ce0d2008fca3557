/* Reads estimates from ndtd over ZeroMQ: cc read_estimates.c -lzmq -o read_estimates
 * Example: ./read_estimates tcp://127.0.0.1:5571 500
 * The header is laid out without padding; its numbers are little-endian, as this program's must be. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct estimate {
    char magic[4];
    uint16_t version, kind;
    uint64_t seq, stream;
    int64_t source_ns;
    uint64_t arrival_ns, decoded_ns, published_ns;
    int64_t velocity_for_ns, clock_offset_ns;
    uint64_t clock_uncertainty_ns;
    int64_t age_ns;
    uint32_t units;
    uint16_t dims, outputs;
    uint32_t reasons;
    uint16_t lag_bins;
    uint8_t quality, reserved, bundle[32];
};
static_assert(sizeof(struct estimate) == 136, "the header of WIRE.md");

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: read_estimates ENDPOINT COUNT\n"), 2;
    void *context = zmq_ctx_new(), *subscriber = zmq_socket(context, ZMQ_SUB);
    zmq_setsockopt(subscriber, ZMQ_SUBSCRIBE, "ndt.estimate", 12);
    if (zmq_connect(subscriber, argv[1])) return perror(argv[1]), 1;
    unsigned qualities[6] = {0};
    float rates[4096], outputs[32] = {0};
    for (int left = atoi(argv[2]); left > 0; left--) {
        char topic[16];
        struct estimate estimate;
        if (zmq_recv(subscriber, topic, sizeof topic, 0) < 0) return perror("receive"), 1;
        int header_bytes = zmq_recv(subscriber, &estimate, sizeof estimate, 0);
        int rates_bytes = zmq_recv(subscriber, rates, sizeof rates, 0);
        int outputs_bytes = zmq_recv(subscriber, outputs, sizeof outputs, 0);
        if (header_bytes != sizeof estimate || memcmp(estimate.magic, "NDTW", 4) || estimate.version != 3 ||
            estimate.quality > 5 || rates_bytes != 4 * (int)estimate.units ||
            outputs_bytes != 4 * (int)estimate.outputs)
            return fprintf(stderr, "expected an estimate of wire version 3\n"), 1;
        qualities[estimate.quality]++;
    }
    printf("good %u warmup %u gap %u late %u stale %u fault %u\n", qualities[0], qualities[1], qualities[2],
           qualities[3], qualities[4], qualities[5]);
    printf("last velocity %.3f %.3f m/s\n", outputs[0], outputs[1]); /* the first estimate.dims outputs */
    zmq_close(subscriber);
    zmq_ctx_term(context);
    return 0;
}
