// SPDX-License-Identifier: Apache-2.0
#include "agent/wire/frame.h"

#include <gmock/gmock.h>

#include <numeric>

#include "agent/base/error.h"

namespace keyagent::wire {
namespace {

SecretBytes frame_of(std::size_t size, std::uint8_t fill) {
  SecretBytes frame;
  append_frame(frame, Bytes(size, fill));
  return frame;
}

// Feeds in pieces of `piece` bytes; collects the sizes of the frames that come out.
std::vector<std::size_t> sizes_of(const SecretBytes& stream, std::size_t piece) {
  FrameReader reader;
  std::vector<std::size_t> sizes;
  for (std::size_t at = 0; at < stream.size();) {
    const auto room = reader.space(1);
    const std::size_t count = std::min({piece, room.size(), stream.size() - at});
    std::copy_n(stream.begin() + static_cast<std::ptrdiff_t>(at), count, room.begin());
    reader.commit(count);
    at += count;
    while (const auto body = reader.next()) {
      EXPECT_THAT(*body, testing::Each(body->front()));
      sizes.push_back(body->size());
    }
  }
  EXPECT_EQ(reader.pending(), 0u);
  return sizes;
}

void feed(FrameReader& reader, ByteView bytes) {
  const auto room = reader.space(bytes.size());
  std::copy(bytes.begin(), bytes.end(), room.begin());
  reader.commit(bytes.size());
}

TEST(Frame, HeaderIsTheLengthInBigEndian) {
  SecretBytes out;
  append_frame(out, Bytes{0x08, 0x01, 0x52, 0x00});
  EXPECT_THAT(out, testing::ElementsAre(0, 0, 0, 4, 0x08, 0x01, 0x52, 0x00));
}

TEST(Frame, EmptyAndOversizedBodiesAreRefused) {
  EXPECT_THROW(frame_header(0), Error);
  EXPECT_THROW(frame_header(kMaxAnswer + 1), Error);
  EXPECT_NO_THROW(frame_header(kMaxAnswer));
}

TEST(FrameReader, Fault082_FramesComeOutWholeHoweverTheyArrive) {
  SecretBytes stream;
  const std::vector<std::size_t> sizes{1, 5, 4096, 70000, 3, kMaxFrame, 2};
  for (const std::size_t size : sizes) {
    const auto frame = frame_of(size, static_cast<std::uint8_t>(size));
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{4096}, stream.size()})
    EXPECT_EQ(sizes_of(stream, piece), sizes) << "in pieces of " << piece;
}

TEST(FrameReader, Fault115_LengthsBeyondTheLimitThrowBeforeAnyBodyIsHeld) {
  for (const std::uint32_t length : {std::uint32_t{0}, std::uint32_t{kMaxFrame + 1}, 0xffffffffu}) {
    FrameReader reader;
    feed(reader,
         Bytes{static_cast<std::uint8_t>(length >> 24), static_cast<std::uint8_t>(length >> 16),
               static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length)});
    EXPECT_TRUE(reader.ready());
    EXPECT_THROW(reader.next(), Error) << length;
  }
}

TEST(FrameReader, Fault114_AnnouncedLengthTakesNoMoreThanOneFrameOfMemory) {
  FrameReader reader;
  feed(reader, Bytes{0x00, 0x04, 0x00, 0x00, 1});
  EXPECT_FALSE(reader.next());
  EXPECT_LE(reader.space(4096).size(), kMaxFrame + 4096);
}

TEST(FrameReader, RestContinuesInAnotherReaderAndTheFrameStays) {
  FrameReader reader;
  auto stream = frame_of(10, 0xaa);
  const auto second = frame_of(20, 0xbb);
  stream.insert(stream.end(), second.begin(), second.end());
  stream.pop_back();
  feed(reader, stream);
  const auto first = reader.next();
  ASSERT_TRUE(first);
  FrameReader rest = reader.take_rest();
  EXPECT_THAT(*first, testing::AllOf(testing::SizeIs(10), testing::Each(0xaa)));
  EXPECT_EQ(reader.pending(), 0u);
  EXPECT_FALSE(rest.ready());
  feed(rest, Bytes{0xbb});
  EXPECT_TRUE(rest.ready());
  EXPECT_THAT(*rest.next(), testing::AllOf(testing::SizeIs(20), testing::Each(0xbb)));
}

TEST(FrameReader, ReturnedFramesAreWipedBeforeTheNextRead) {
  FrameReader reader;
  auto stream = frame_of(100, 0xaa);
  const auto second = frame_of(20, 0xbb);
  const std::size_t begun = 10;
  stream.insert(stream.end(), second.begin(), second.begin() + begun);
  feed(reader, stream);
  const auto body = reader.next();
  ASSERT_TRUE(body);
  // The second frame moves to the front, and the rest of the first goes.
  const std::uint8_t* front = body->data() - kFrameHeader;
  ASSERT_EQ(reader.space(1).data(), front + begun);
  EXPECT_THAT(ByteView(front + begun, kFrameHeader + 100 - begun), testing::Each(0));
  EXPECT_EQ(reader.pending(), begun);
}

TEST(FrameReader, AResetWipesWhatWasReturned) {
  FrameReader reader;
  feed(reader, frame_of(100, 0xaa));
  const auto body = reader.next();
  ASSERT_TRUE(body);
  const std::uint8_t* where = body->data();
  reader.reset();
  EXPECT_THAT(ByteView(where, 100), testing::Each(0));
}

}  // namespace
}  // namespace keyagent::wire
